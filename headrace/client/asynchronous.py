"""Asynchronous client of `headrace serve`."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from tenacity import AsyncRetrying

import headrace.client.calls as calls  # noqa: PLR0402 - the package imports this module
from headrace.client.buffers import AsyncEventBuffer
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


class AsyncClient:
    """Client with the methods of `Client`, each awaited."""

    def __init__(
        self,
        base_url: str,
        key: str | None = None,
        settings: ClientSettings | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        *,
        admin_key: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings or ClientSettings()
        self._sleep = sleep
        self._clock = clock or SystemClock()
        self._base_url = hide_password(base_url)
        connection = make_connection(base_url, key or admin_key, self._settings)
        self._http = httpx.AsyncClient(**connection, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    def buffer_events(self, settings: BufferSettings | None = None) -> AsyncEventBuffer:
        """Return a buffer that sends events in batches; open it with `async with`."""
        return AsyncEventBuffer(self._send_encoded, settings or BufferSettings(), self._clock)

    async def send_events(self, events: Iterable[Fields]) -> IngestResult:
        return await self._send_encoded([calls.encode_event(event, self._clock) for event in events])

    async def retract_event(self, event_id: str, user_id: str | None = None) -> Retraction:
        return await self._call(calls.retract_event(event_id, user_id))

    async def recommend(self, user_id: str | None = None, k: int | None = None, **fields: Any) -> Slate:
        return await self._call(calls.recommend(RecommendationRequest(user_id=user_id, k=k, **fields)))

    async def similar(self, item_id: str, k: int = 10, **query: Any) -> SimilarItems:
        return await self._call(calls.similar(item_id, {"k": k} | query))

    async def popular(self, k: int = 10, **query: Any) -> ItemBoard:
        return await self._call(calls.board("popular", {"k": k} | query))

    async def trending(self, k: int = 10, **query: Any) -> ItemBoard:
        return await self._call(calls.board("trending", {"k": k} | query))

    async def newest(self, k: int = 10, **query: Any) -> ItemBoard:
        return await self._call(calls.board("newest", {"k": k} | query))

    async def put_items(self, items: Iterable[Fields]) -> PutResult:
        return await self._call(calls.put_items(items))

    async def change_item(self, item_id: str, fields: Fields) -> PutResult:
        return await self._call(calls.change_item(item_id, fields))

    async def delete_item(self, item_id: str) -> None:
        await self._call(calls.delete_item(item_id))

    async def item(self, item_id: str) -> dict[str, Any]:
        return await self._call(calls.item(item_id))

    async def list_items(self, **query: Any) -> ItemPage:
        return await self._call(calls.list_items(query))

    async def user(self, user_id: str) -> UserRecord:
        return await self._call(calls.user(user_id))

    async def put_user(self, user_id: str, fields: Fields) -> None:
        await self._call(calls.put_user(user_id, fields))

    async def forget_user(self, user_id: str) -> None:
        await self._call(calls.forget_user(user_id))

    async def lag(self) -> Lag:
        return await self._call(calls.LAG)

    async def readiness(self) -> dict[str, Any]:
        return await self._call(calls.READINESS)

    async def models(self) -> list[dict[str, Any]]:
        return await self._call(calls.MODELS)

    async def alarms(self) -> list[dict[str, Any]]:
        return await self._call(calls.ALARMS)

    async def is_ready(self) -> bool:
        """Return True if the server is ready; one attempt, without retries."""
        try:
            return (await self._http.get("/readyz")).is_success
        except httpx.HTTPError:
            return False

    async def _send_encoded(self, events: Sequence[bytes]) -> IngestResult:
        return await self._call(calls.send_events(events))

    async def _call(self, call: Call[T]) -> T:
        retrying = AsyncRetrying(sleep=self._sleep, **make_retry_policy(call, self._settings))
        result: T = await retrying(self._attempt, call)
        return result

    async def _attempt(self, call: Call[T]) -> T:
        try:
            response = await self._http.request(call.method, call.path, content=call.body)
        except httpx.HTTPError as error:
            raise connection_error(call, self._base_url, error) from error
        return decode_response(call, response)
