"""Refusals over HTTP: problem documents (RFC 9457) that name the field and what was expected."""

import logging
import re
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from serving import metrics
from serving.pipeline.schemas import RecommendationRequest
from stream.records.catalog import Item
from stream.records.events import Event

_FIELD_PATTERN = re.compile(r"`\$\.?([\w.]+)|(?:unknown|required) field `([^`]*)`")
_KNOWN_FIELDS = {*Event.__struct_fields__, *Item.__struct_fields__, *RecommendationRequest.__struct_fields__}
_logger = logging.getLogger(__name__)


class Problem(Exception):
    """A refusal on its way to the client."""

    def __init__(
        self, status: int, title: str, detail: str, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers, self.extra = status, title, detail, headers, extra


def validation_problem(error: msgspec.ValidationError | ValueError) -> Problem:
    """A body that is JSON, but not what the route takes."""
    return Problem(422, "Not what is expected here", str(error), field=find_field(str(error)))


def find_field(message: str) -> str | None:
    """The field that a decoder's message, or a refusal of our own, is about.

    >>> find_field("ExpectedCTR `int`, got `str` - at `$.k`"), find_field("ts 5 is 9 s ahead"), find_field("no JSON")
    ('k', 'ts', None)
    """
    match = _FIELD_PATTERN.search(message)
    if match:
        return match[1] or match[2]
    return next((word for word in re.findall(r"\w+", message) if word in _KNOWN_FIELDS), None)


def problem_response(request: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, Any]]:
    metrics.http_errors.labels(str(problem.status)).inc()
    body = {"type": "about:blank", "title": problem.title, "status": problem.status, "detail": problem.detail}
    return Response(
        body | {name: value for name, value in problem.extra.items() if value is not None},
        status_code=problem.status,
        headers=problem.headers,
        media_type="application/problem+json",
    )


def http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """What the framework refuses by itself: unknown routes, methods, query values, body sizes."""
    if isinstance(error, ValidationException):
        errors = error.extra if isinstance(error.extra, list) else []
        first_error = errors[0] if errors else {}
        detail = (
            "; ".join(
                f"{validation_error.get('key', '')}: {validation_error.get('message', '')}"
                for validation_error in errors
            )
            or error.detail
        )
        return problem_response(
            request, Problem(422, "Not what is expected here", detail, field=first_error.get("key"))
        )
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem_response(request, Problem(error.status_code, title, detail, dict(error.headers or {})))


def unavailable(request: Request[Any, Any, Any], error: OSError) -> Response[dict[str, Any]]:
    """The log or the user store is away: the request may come again."""
    _logger.error("%s %s: %r", request.method, request.url.path, error)
    detail = "the event log or the user store cannot be reached; come again in a second"
    return problem_response(request, Problem(503, "A part of the service is away", detail, {"Retry-After": "1"}))


def internal_error(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """A fault of ours: the log has the trace, the client has not."""
    _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem_response(request, Problem(500, "A fault of this service", "the request failed; the log says why"))
