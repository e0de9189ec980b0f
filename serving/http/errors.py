"""Error responses: problem documents (RFC 9457) that name the field and the expected value."""

import logging
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from serving import metrics
from serving.http.request_ids import get_request_id
from serving.pipeline.batcher import Overloaded
from serving.pipeline.schemas import RecommendationRequest
from serving.replica.log_reads import LogUnavailable
from serving.rules.pins import RuleConflict
from stream.process.errors import describe_error
from stream.process.outages import OutageLog
from stream.records.catalog import Item
from stream.records.events import Event

_FIELD_PATTERN = re.compile(r"`\$\.?([\w.]+)|(?:unknown|required) (?:field|parameter) `([^`]*)`")
_KNOWN_FIELDS = {*Event.__struct_fields__, *Item.__struct_fields__, *RecommendationRequest.__struct_fields__}
_RETRY_AFTER_S = "1"  # when the log or the user store is unavailable
PROBLEM_TYPE = "application/problem+json"
_logger = logging.getLogger(__name__)


class Problem(Exception):
    """An error response: RFC 9457 fields, headers, and extra fields such as `field`."""

    def __init__(
        self, status: int, title: str, detail: str, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.title, self.detail, self.headers, self.extra = status, title, detail, headers, extra


def validation_problem(error: Exception) -> Problem:
    """Problem for a body that is valid JSON but does not match the schema."""
    return Problem(422, "Invalid request", str(error), field=find_field(str(error)))


def find_field(message: str) -> str | None:
    """Field that a decoder's or validator's message names; None if it names none.

    >>> find_field("Expected `int`, got `str` - at `$.k`"), find_field("ts 5 is 9 s ahead"), find_field("no JSON")
    ('k', 'ts', None)
    """
    match = _FIELD_PATTERN.search(message)
    if match:
        return match[1] or match[2]
    return next((word for word in re.findall(r"\w+", message) if word in _KNOWN_FIELDS), None)


def problem_response(request: Request[Any, Any, Any], problem: Problem) -> Response[dict[str, Any]]:
    metrics.http_errors.labels(str(problem.status)).inc()
    body, status = build_document(problem, get_request_id(request.scope)), problem.status
    return Response(body, status_code=status, headers=problem.headers, media_type=PROBLEM_TYPE)


def build_document(problem: Problem, request_id: str) -> dict[str, Any]:
    """Problem document of a response."""
    document = {"type": "about:blank", "title": problem.title, "status": problem.status, "detail": problem.detail}
    extra = {name: value for name, value in problem.extra.items() if value is not None}
    return document | extra | {"request_id": request_id}


def http_error(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, Any]]:
    """Convert an error of the framework: unknown route, wrong method, invalid query parameter."""
    if isinstance(error, ValidationException):
        return problem_response(request, _parameter_problem(error))
    title = HTTPStatus(error.status_code).phrase
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return problem_response(request, Problem(error.status_code, title, detail, dict(error.headers or {})))


def _parameter_problem(error: ValidationException) -> Problem:
    errors: list[Any] = error.extra if isinstance(error.extra, list) else []
    details = [f"{item.get('key', '')}: {item.get('message', '')}" for item in errors]
    field = errors[0].get("key") if errors else None
    return Problem(422, "Invalid request", "; ".join(details) or error.detail, field=field)


def error_response(request: Request[Any, Any, Any], error: Exception) -> Response[dict[str, Any]]:
    """Convert any other error."""
    outage: OutageLog = request.app.state["service"].stored_users.request_outage
    return problem_response(request, convert_error(error, describe_request(request.scope), outage))


def convert_error(error: Exception, description: str, outage: OutageLog) -> Problem:
    """Problem for an error of a request, which its `description` names in the log.

    The text of an error of the log or the user store is logged once per outage. The traceback of an unexpected error
    stays in the log.
    """
    if isinstance(error, Overloaded):
        headers = {"Retry-After": str(error.retry_after_s)}
        return Problem(503, "Too many requests are waiting", str(error), headers)
    if isinstance(error, RuleConflict):
        return Problem(422, "Conflicting rules", str(error), field="rules")
    if isinstance(error, OSError):
        if not isinstance(error, LogUnavailable):
            outage.report("%s: %s", description, describe_error(error))
        detail = f"the event log or the user store is unavailable; retry in {_RETRY_AFTER_S} s"
        return Problem(503, "Service unavailable", detail, {"Retry-After": _RETRY_AFTER_S})
    _logger.error("%s failed", description, exc_info=error)
    return Problem(500, "Internal error", "the request failed; see the log of the server")


def describe_request(scope: Mapping[str, Any]) -> str:
    """Method, route and id of a request for the log; not its path, which can name a user."""
    return f"{scope['method']} {scope.get('path_template', '')}, request {get_request_id(scope)}"
