"""Refusals over HTTP: problem documents (RFC 9457) that name the field and what was expected."""

import logging
import re
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from serving import metrics
from serving.pipeline.schemas import Question
from stream.records.catalog import Item
from stream.records.events import Event

_PATH = re.compile(r"`\$\.?([\w.]+)|(?:unknown|required) field `([^`]*)`")
_FIELDS = {*Event.__struct_fields__, *Item.__struct_fields__, *Question.__struct_fields__}
_logger = logging.getLogger(__name__)


class Problem(Exception):
    """A refusal on its way to the client."""

    def __init__(
        self, status: int, title: str, detail: str, headers: dict[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers, self.more = status, title, detail, headers, more


def invalid(error: msgspec.ValidationError | ValueError) -> Problem:
    """A body that is JSON, but not what the route takes."""
    return Problem(422, "Not what is expected here", str(error), field=field_of(str(error)))


def field_of(message: str) -> str | None:
    """The field that a decoder's message, or a refusal of our own, is about.

    >>> field_of("Expected `int`, got `str` - at `$.k`"), field_of("ts 5 is 9 s ahead"), field_of("no JSON")
    ('k', 'ts', None)
    """
    path = _PATH.search(message)
    if path:
        return path[1] or path[2]
    return next((word for word in re.findall(r"\w+", message) if word in _FIELDS), None)


def answer_problem(request: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, Any]]:
    metrics.problems.labels(str(problem.status)).inc()
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "detail": problem.detail}
    return Response(
        body | {name: value for name, value in problem.more.items() if value is not None},
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def answer_http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """What the framework refuses by itself: unknown routes, methods, query values, body sizes."""
    if isinstance(error, ValidationException):
        faults = error.extra if isinstance(error.extra, list) else []
        first = faults[0] if faults else {}
        detail = "; ".join(f"{fault.get('key', '')}: {fault.get('message', '')}" for fault in faults) or error.detail
        return answer_problem(request, Problem(422, "Not what is expected here", detail, field=first.get("key")))
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return answer_problem(request, Problem(error.status_code, title, detail, dict(error.headers or {})))


def answer_away(request: Request[Any, Any, Any], error: OSError) -> Response[dict[str, Any]]:
    """The log or the user store is away: the request may come again."""
    _logger.error("%s %s: %r", request.method, request.url.path, error)
    detail = "the event log or the user store cannot be reached; come again in a second"
    return answer_problem(request, Problem(503, "A part of the service is away", detail, {"Retry-After": "1"}))


def answer_fault(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """A fault of ours: the log has the trace, the client has not."""
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return answer_problem(request, Problem(500, "A fault of this service", "the request failed; the log says why"))
