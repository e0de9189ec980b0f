"""HTTP application: all routes, error handlers and the API documentation."""

import inspect
import re
from typing import Any, cast

from litestar import Litestar
from litestar.config.cors import CORSConfig
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Message, Receive, Scope, Send

from serving.http import admin_routes, health_routes, item_routes, recommendation_routes, user_routes
from serving.http.access import AccessKeys
from serving.http.catalog import boards, onboarding
from serving.http.catalog import routes as catalog_routes
from serving.http.direct.recommendations import DirectPath
from serving.http.documentation import page as documentation_page
from serving.http.documentation.document import Route, make_document_builder
from serving.http.errors import Problem, error_response, http_error, problem_response
from serving.http.operations import Admission, Operation, find_operation
from serving.http.request_ids import HEADER, find_request_id, get_request_id
from serving.service import Service
from stream.process.log_lines import request_id

_ROUTES = (
    *recommendation_routes.ROUTES, *item_routes.ROUTES, *catalog_routes.ROUTES, *boards.ROUTES, *onboarding.ROUTES,
    *user_routes.ROUTES,
    *admin_routes.ROUTES, *health_routes.ROUTES,
)  # fmt: skip
_NO_HEAD = "/v1/recommendations"  # a GET of it logs an impression; HEAD must change nothing


class _App(Litestar):
    """Litestar with request ids, HEAD, and routes that match the encoded path.

    An id with an encoded slash stays one segment. Plain requests for recommendations are answered before the framework.
    """

    direct_path: DirectPath

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        if self.direct_path.accepts(scope):
            unread = await self.direct_path.respond(scope, receive, send)
            if unread is None:
                return
            receive = unread
        request_scope, is_head = _prepare_scope(scope)
        request_id.set(get_request_id(request_scope))  # for the log lines of this request
        header = HEADER, get_request_id(request_scope).encode()
        await super().__call__(request_scope, receive, _wrap_send(cast(Send, send), header, is_head))


def _prepare_scope(scope: Scope) -> tuple[Scope, bool]:
    """Copy of a scope with the encoded path and the request id, and GET instead of HEAD.

    Also return if it was HEAD; the server keeps its own scope, with HEAD.
    """
    path = scope["raw_path"].partition(b"?")[0].decode(errors="replace")
    state = {**(scope.get("state") or {}), "request_id": find_request_id(scope["headers"])}
    changes: dict[str, Any] = {"path": path, "state": state}
    is_head = scope.get("method") == "HEAD" and not path.startswith(_NO_HEAD)
    if is_head:
        changes["method"] = "GET"
    return cast(Scope, {**scope, **changes}), is_head


def _wrap_send(send: Send, header: tuple[bytes, bytes], is_head: bool) -> Send:
    """Add a header to the response; leave out the body if the request is HEAD."""

    async def wrapped_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], header]
        elif is_head and message["type"] == "http.response.body":
            message["body"] = b""
        await send(message)

    return wrapped_send


def list_routes() -> list[Route]:
    """Routes with a contract, for the documentation."""
    pairs = [(handler, find_operation(handler.opt)) for handler in _ROUTES]
    return [_describe_route(handler, operation) for handler, operation in pairs if operation is not None]


def _describe_route(handler: HTTPRouteHandler, operation: Operation) -> Route:
    return Route(
        method=min(handler.http_methods).lower(), path=re.sub(r":\w+}", "}", min(handler.paths)),
        status=handler.status_code, name=handler.handler_name, text=inspect.getdoc(handler.fn) or "",
        tag=(handler.tags or [""])[0], operation=operation,
    )  # fmt: skip


def create_app(service: Service) -> Litestar:
    """Create the application over a service, which starts and stops with it."""
    serve = service.settings.serve
    keys = AccessKeys(serve)
    app = _App(
        [*_ROUTES, *documentation_page.ROUTES],
        state=State({"service": service, "build_document": make_document_builder(list_routes())}),
        before_request=Admission(keys),
        on_startup=[service.start],
        on_shutdown=[service.stop],
        request_max_body_size=None,
        logging_config=None,
        openapi_config=None,
        cors_config=_make_cors_config(serve.cors_origins),
        exception_handlers={
            Problem: problem_response, HTTPException: http_error, Exception: error_response,
        },
    )  # fmt: skip
    app.direct_path = DirectPath(service, keys)
    return app


def _make_cors_config(origins: str) -> CORSConfig | None:
    """Let pages of these origins call the API; None: no other origin may."""
    allowed_origins = [origin.strip().rstrip("/") for origin in origins.split(",") if origin.strip()]
    exposed_headers = ["X-Request-Id", "Retry-After"]
    return CORSConfig(allow_origins=allowed_origins, expose_headers=exposed_headers) if allowed_origins else None
