"""Refusals over HTTP: problem documents (RFC 9457) that name the field and what was expected."""

import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

_FIELD = re.compile(r"`\$\.?([^`]*)`|unknown field `([^`]*)`|required field `([^`]*)`")


class Problem(Exception):
    """A refusal on its way to the client."""

    def __init__(self, status: int, title: str, detail: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers, self.more = status, title, detail, headers, more


def invalid(error: msgspec.ValidationError | ValueError) -> Problem:
    """A body that is JSON, but not what the route takes."""
    return Problem(422, "Not what is expected here", str(error), field=_field(str(error)))


def answer_problem(request: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, Any]]:
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
    return answer_problem(request, Problem(error.status_code, error.detail, error.detail, dict(error.headers or {})))


def answer_fault(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """A part that is away: the request may come again."""
    request.logger.error("%s %s: %r", request.method, request.url.path, error) if request.logger else None
    return answer_problem(
        request, Problem(503, "A part of the service is away", f"{type(error).__name__}: {error}", {"Retry-After": "1"})
    )


def _field(message: str) -> str | None:
    match = _FIELD.search(message)
    return next((group for group in match.groups() if group), None) if match else None
