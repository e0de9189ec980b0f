"""Blocking client of `headrace serve`."""

import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from tenacity import Retrying

import headrace.client.calls as calls  # noqa: PLR0402 - the package imports this module
from headrace.client.buffers import EventBuffer
from headrace.client.calls import Call, Fields
from headrace.client.pending_events import BufferSettings
from headrace.client.transport import (
    ClientSettings,
    connection_error,
    decode_response,
    hide_password,
    make_connection,
    make_retry_policy,
)
from serving.pipeline.schemas import RecommendationRequest
from serving.pipeline.schemas import RecommendationResponse as Slate
from serving.records import IngestResult, ItemBoard, ItemPage, Lag, PutResult, Retraction, SimilarItems, UserRecord
from stream.clock import Clock, SystemClock

T = TypeVar("T")


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
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or ClientSettings()
        self._sleep = sleep
        self._clock = clock or SystemClock()
        self._base_url = hide_password(base_url)
        connection = make_connection(base_url, key or admin_key, self._settings)
        self._http = httpx.Client(**connection, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def buffer_events(self, settings: BufferSettings | None = None) -> EventBuffer:
        """Return a buffer that sends events in batches; open it with `with`."""
        return EventBuffer(self._send_encoded, settings or BufferSettings(), self._clock)

    def send_events(self, events: Iterable[Fields]) -> IngestResult:
        """Send events; accepted ones are durable. A missing `event_id` or `ts` is added."""
        return self._send_encoded([calls.encode_event(event, self._clock) for event in events])

    def retract_event(self, event_id: str, user_id: str | None = None) -> Retraction:
        """Take an action back."""
        return self._call(calls.retract_event(event_id, user_id))

    def recommend(self, user_id: str | None = None, k: int | None = None, **fields: Any) -> Slate:
        """Return a slate of k items; `fields`: others of `RecommendationRequest`."""
        return self._call(calls.recommend(RecommendationRequest(user_id=user_id, k=k, **fields)))

    def similar(self, item_id: str, k: int = 10, **query: Any) -> SimilarItems:
        """Return up to k neighbors of an item; `query`: such as `filters`."""
        return self._call(calls.similar(item_id, {"k": k} | query))

    def popular(self, k: int = 10, **query: Any) -> ItemBoard:
        """Return the k most popular items."""
        return self._call(calls.board("popular", {"k": k} | query))

    def trending(self, k: int = 10, **query: Any) -> ItemBoard:
        """Return the k items that rise fastest."""
        return self._call(calls.board("trending", {"k": k} | query))

    def newest(self, k: int = 10, **query: Any) -> ItemBoard:
        """Return the k newest items."""
        return self._call(calls.board("newest", {"k": k} | query))

    def put_items(self, items: Iterable[Fields]) -> PutResult:
        """Create or replace items of the catalog."""
        return self._call(calls.put_items(items))

    def change_item(self, item_id: str, fields: Fields) -> PutResult:
        """Change some fields of an item; None removes a field."""
        return self._call(calls.change_item(item_id, fields))

    def delete_item(self, item_id: str) -> None:
        """Remove an item from the catalog."""
        self._call(calls.delete_item(item_id))

    def item(self, item_id: str) -> dict[str, Any]:
        """Return an item's fields, with `counts` of its events by type."""
        return self._call(calls.item(item_id))

    def list_items(self, **query: Any) -> ItemPage:
        """Return a page of the catalog; `query`: `limit` and the parameters of the next page."""
        return self._call(calls.list_items(query))

    def user(self, user_id: str) -> UserRecord:
        """Return a user's history, counts and attributes."""
        return self._call(calls.user(user_id))

    def put_user(self, user_id: str, fields: Fields) -> None:
        """Set the attributes of a user."""
        self._call(calls.put_user(user_id, fields))

    def forget_user(self, user_id: str) -> None:
        """Delete a user's history, counts and attributes."""
        self._call(calls.forget_user(user_id))

    def lag(self) -> Lag:
        """Return the number of acknowledged events that recommendations do not reflect yet."""
        return self._call(calls.LAG)

    def readiness(self) -> dict[str, Any]:
        """Return the status of a server that is ready: its model version and its installation."""
        return self._call(calls.READINESS)

    def models(self) -> list[dict[str, Any]]:
        """List the versions on disk, oldest first; needs the admin key."""
        return self._call(calls.MODELS)

    def alarms(self) -> list[dict[str, Any]]:
        """List the alarms, oldest first; needs the admin key."""
        return self._call(calls.ALARMS)

    def is_ready(self) -> bool:
        """Return True if the server is ready; one attempt, without retries."""
        try:
            return (self._http.get("/readyz")).is_success
        except httpx.HTTPError:
            return False

    def _send_encoded(self, events: Sequence[bytes]) -> IngestResult:
        return self._call(calls.send_events(events))

    def _call(self, call: Call[T]) -> T:
        retrying = Retrying(sleep=self._sleep, **make_retry_policy(call, self._settings))
        result: T = retrying(self._attempt, call)
        return result

    def _attempt(self, call: Call[T]) -> T:
        try:
            response = self._http.request(call.method, call.path, content=call.body)
        except httpx.HTTPError as error:
            raise connection_error(call, self._base_url, error) from error
        return decode_response(call, response)
