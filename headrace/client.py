"""HTTP client of `headrace serve`, with retries and typed responses."""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from serving.pipeline.schemas import RecommendationRequest, RecommendationResponse
from serving.records import IngestResult, Lag, ProblemDocument, PutResult, SimilarItems, UserRecord

T = TypeVar("T")
KEY_VARIABLE = "HEADRACE_KEY"
_RETRYABLE_STATUSES = (429, 503)


class ClientError(Exception):
    """A request that did not succeed."""


class ServerUnreachable(ClientError):
    """No response: the server does not listen, or the connection failed or timed out."""


class RequestRejected(ClientError):
    """An error response; `problem` is its body."""

    def __init__(self, problem: ProblemDocument) -> None:
        super().__init__(f"{problem.status} {problem.title}: {problem.detail}")
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ClientSettings:
    """Timeout and retries of each request."""

    timeout_s: float = 10.0
    max_retries: int = 3  # after 429, 503 or a refused connection; other errors are not retried
    backoff_s: float = 0.1  # doubles with each retry; a Retry-After header replaces it
    max_delay_s: float = 10.0


class Client:
    """Send events and items, and request recommendations; threads may share one client.

    `key` is a key of the routes that the client uses, by default HEADRACE_KEY; `admin_key` is an older name of it.

    An error response raises `RequestRejected`, a missing response `ServerUnreachable`; both are `ClientError`.
    """

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        settings: ClientSettings | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        *,
        admin_key: str | None = None,
    ) -> None:
        self._settings = settings or ClientSettings()
        self._sleep = sleep
        headers = {"Content-Type": "application/json"}
        key = key or admin_key or os.environ.get(KEY_VARIABLE)
        if key:
            headers["Authorization"] = f"Bearer {key}"
        self._base_url = str(httpx.URL(base_url).copy_with(userinfo=b""))  # for messages: without a password
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=self._settings.timeout_s, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def send_events(self, events: Iterable[Mapping[str, Any]]) -> IngestResult:
        """Send events; accepted ones are durable. A repeat with the same ids changes nothing."""
        return self._call("POST", "/v1/events", IngestResult, list(events))

    def put_items(self, items: Iterable[Mapping[str, Any]]) -> PutResult:
        """Create or replace items of the catalog."""
        return self._call("POST", "/v1/items", PutResult, list(items))

    def item(self, item_id: str) -> dict[str, Any]:
        """Return an item's fields, with `counts` of its events by type."""
        return self._call("GET", f"/v1/items/{_quote(item_id)}", dict[str, Any])

    def recommend(self, user_id: str | None = None, k: int | None = None, **fields: Any) -> RecommendationResponse:
        """Return a slate of k items for a user, a `session_id`, or nobody.

        `fields`: further fields of `RecommendationRequest`.
        """
        request = RecommendationRequest(user_id=user_id, k=k, **fields)
        return self._call("POST", "/v1/recommendations", RecommendationResponse, request)

    def similar(self, item_id: str, k: int = 10) -> SimilarItems:
        """Return up to k neighbors of an item."""
        return self._call("GET", f"/v1/items/{_quote(item_id)}/similar?k={k}", SimilarItems)

    def user(self, user_id: str) -> UserRecord:
        """Return a user's history, counts and attributes."""
        return self._call("GET", f"/v1/users/{_quote(user_id)}", UserRecord)

    def lag(self) -> Lag:
        """Return the number of acknowledged events that recommendations do not reflect yet."""
        return self._call("GET", "/v1/lag", Lag)

    def is_ready(self) -> bool:
        """Return True if the server is ready; one attempt, without retries."""
        try:
            return self._http.get("/readyz").is_success
        except httpx.HTTPError:
            return False

    def readiness(self) -> dict[str, Any]:
        """Return the status of a server that is ready: its model version and its installation."""
        return self._call("GET", "/readyz", dict[str, Any])

    def models(self) -> list[dict[str, Any]]:
        """List the versions on disk, oldest first; needs the admin key."""
        return self._call("GET", "/v1/models", list[dict[str, Any]])

    def alarms(self) -> list[dict[str, Any]]:
        """List the alarms, oldest first; needs the admin key."""
        return self._call("GET", "/v1/alarms", list[dict[str, Any]])

    def _call(self, method: str, path: str, response_type: type[T], body: object = None) -> T:
        content = None if body is None else msgspec.json.encode(body)
        return msgspec.json.decode(self._send(method, path, content).content, type=response_type)

    def _send(self, method: str, path: str, content: bytes | None) -> httpx.Response:
        """Send a request, with retries while the server is overloaded or refuses connections."""
        for attempt in count():
            delay_s = self._settings.backoff_s * 2**attempt
            failure: ClientError
            try:
                response = self._http.request(method, path, content=content)
            except httpx.HTTPError as error:
                # Only a refused connection is surely not processed: a repeat cannot log a second impression.
                is_retryable = isinstance(error, httpx.ConnectError)
                failure = ServerUnreachable(f"{method} {self._base_url}{path}: {error!r}")
            else:
                if response.is_success:
                    return response
                is_retryable = response.status_code in _RETRYABLE_STATUSES
                delay_s = _read_retry_after(response, delay_s)
                failure = RequestRejected(_decode_problem(response))
            if not is_retryable or attempt >= self._settings.max_retries:
                raise failure
            self._sleep(min(delay_s, self._settings.max_delay_s))
        raise AssertionError("unreachable")


def _quote(identifier: str) -> str:
    """Encode an id as one path segment; HTTP libraries would resolve "." and ".." as folders."""
    return quote(identifier, safe="").replace(".", "%2E")


def _read_retry_after(response: httpx.Response, default_s: float) -> float:
    value = response.headers.get("retry-after", "")
    return float(value) if value.isdigit() else default_s


def _decode_problem(response: httpx.Response) -> ProblemDocument:
    """Decode the body of an error response, or make a document of a proxy's page."""
    try:
        return msgspec.json.decode(response.content, type=ProblemDocument)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ProblemDocument(response.reason_phrase, response.status_code, response.text[:200])
