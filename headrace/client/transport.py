"""Connection settings, retries and the decoding of responses, for both clients."""

import os
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

import httpx
import msgspec
from tenacity import RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential, wait_random

from headrace.client.calls import Call
from headrace.client.errors import RequestRejected, ServerUnreachable
from serving.records import ProblemDocument

T = TypeVar("T")
KEY_VARIABLE = "HEADRACE_KEY"
_OVERLOAD_STATUSES = {429, 503}  # the request was not processed
_GATEWAY_STATUSES = {502, 504}  # it may have been


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Timeout and retries of each request.

    Overload (429, 503) and refused connections are retried. Timeouts, broken connections, 502 and 504 are retried
    except for slates that log an impression: a repeat would log a second one.
    """

    timeout_s: float = 10.0
    max_retries: int = 3
    backoff_s: float = 0.1  # doubles with each retry, plus up to as much at random; a Retry-After header replaces it
    max_delay_s: float = 10.0


class Connection(TypedDict):
    """Arguments of an httpx client."""

    base_url: str
    headers: dict[str, str]
    timeout: float


def make_connection(base_url: str, key: str | None, settings: ClientSettings) -> Connection:
    headers = {"Content-Type": "application/json"}
    if key := key or os.environ.get(KEY_VARIABLE):
        headers["Authorization"] = f"Bearer {key}"
    return {"base_url": base_url, "headers": headers, "timeout": settings.timeout_s}


class RetryPolicy(TypedDict):
    """Arguments of tenacity's `Retrying` and `AsyncRetrying`."""

    retry: retry_if_exception
    stop: stop_after_attempt
    wait: "RetryDelay"
    reraise: bool


def make_retry_policy(call: Call[Any], settings: ClientSettings) -> RetryPolicy:
    return {
        "retry": retry_if_exception(lambda error: _is_retryable(call, error)),
        "stop": stop_after_attempt(settings.max_retries + 1),
        "wait": RetryDelay(settings),
        "reraise": True,
    }


def _is_retryable(call: Call[Any], error: BaseException) -> bool:
    if isinstance(error, ServerUnreachable):
        return error.is_refused or call.is_idempotent
    if isinstance(error, RequestRejected):
        status = error.problem.status
        return status in _OVERLOAD_STATUSES or (call.is_idempotent and status in _GATEWAY_STATUSES)
    return False


class RetryDelay:
    """Seconds to wait: as the server says, else exponential, and some at random."""

    def __init__(self, settings: ClientSettings) -> None:
        self._max_delay_s = settings.max_delay_s
        self._backoff = wait_exponential(settings.backoff_s, settings.max_delay_s)
        self._jitter = wait_random(0, settings.backoff_s)

    def __call__(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        retry_after_s = error.retry_after_s if isinstance(error, RequestRejected) else None
        delay_s = self._backoff(state) if retry_after_s is None else retry_after_s
        return min(delay_s + self._jitter(state), self._max_delay_s)


def hide_password(base_url: str) -> str:
    """URL for messages, without a user and a password."""
    return str(httpx.URL(base_url).copy_with(userinfo=b""))


def connection_error(call: Call[Any], base_url: str, error: httpx.HTTPError) -> ServerUnreachable:
    message = f"{call.method} {base_url}{call.path}: {error!r}"
    return ServerUnreachable(message, is_refused=isinstance(error, httpx.ConnectError | httpx.ConnectTimeout))


def decode_response(call: Call[T], response: httpx.Response) -> T:
    """Decode a response; `RequestRejected` if it is an error."""
    if not response.is_success:
        raise RequestRejected(_decode_problem(response), _read_retry_after(response))
    return msgspec.json.decode(response.content or b"null", type=call.response_type)


def _read_retry_after(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else None


def _decode_problem(response: httpx.Response) -> ProblemDocument:
    """Decode the body of an error response, or make a document of a proxy's page."""
    try:
        return msgspec.json.decode(response.content, type=ProblemDocument)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ProblemDocument(response.reason_phrase, response.status_code, response.text[:200])
