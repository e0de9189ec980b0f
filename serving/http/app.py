"""HTTP application: all routes, error handlers and the API documentation."""

from typing import Any

from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.static_files import create_static_files_router
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send
from swagger_ui_bundle import swagger_ui_path

from serving.http import admin_routes, item_routes, recommendation_routes
from serving.http.errors import Problem, http_error, internal_error, overloaded, problem_response, unavailable
from serving.pipeline.batcher import Overloaded
from serving.service import Service

_DOCS_ASSETS = "/docs/assets"


class _App(Litestar):
    """Match routes on the encoded path, so that an id with a slash stays one segment."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        if scope["type"] != "lifespan":
            scope["path"] = scope["raw_path"].partition(b"?")[0].decode(errors="replace")
        await super().__call__(scope, receive, send)


class _DocsPage(SwaggerRenderPlugin):
    """Swagger UI at /docs with assets from a Python package: it works without internet access."""

    def __init__(self) -> None:
        super().__init__(
            path="/",
            js_url=f"{_DOCS_ASSETS}/swagger-ui-bundle.js",
            css_url=f"{_DOCS_ASSETS}/swagger-ui.css",
            standalone_preset_js_url=f"{_DOCS_ASSETS}/swagger-ui-standalone-preset.js",
            favicon=f"<link rel='icon' href='{_DOCS_ASSETS}/favicon-32x32.png'>",
        )

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        # This Swagger UI rejects OpenAPI above 3.0; the schema uses no feature of 3.1.
        return super().render(request, openapi_schema | {"openapi": "3.0.3"})


def create_app(service: Service) -> Litestar:
    """Create the application over a service, which starts and stops with it."""
    return _App(
        [
            *recommendation_routes.ROUTES, *item_routes.ROUTES, *admin_routes.ROUTES,
            create_static_files_router(_DOCS_ASSETS, [swagger_ui_path], include_in_schema=False),
        ],
        state=State({"service": service}),
        on_startup=[service.start],
        on_shutdown=[service.stop],
        request_max_body_size=None,
        logging_config=None,
        openapi_config=OpenAPIConfig(
            title="Headrace", version="1", path="/docs", render_plugins=[_DocsPage()], use_handler_docstrings=True
        ),
        exception_handlers={
            Problem: problem_response, Overloaded: overloaded, HTTPException: http_error, OSError: unavailable,
            Exception: internal_error,
        },
    )  # fmt: skip
