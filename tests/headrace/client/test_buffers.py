"""Buffers of events: batches in order, bounded, and nothing is lost silently."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from headrace.client import AsyncClient, BufferFull, BufferSettings, Client, ClientSettings, EventsNotSent
from stream.testing import ManualClock
from tests.support.polling import wait_until

SLOW = BufferSettings(interval_s=60.0)
FAST = BufferSettings(interval_s=0.01)


class Server:
    """Accept events, unless it is down; refuse those of type `bad`."""

    def __init__(self) -> None:
        self.batches: list[list[dict[str, Any]]] = []
        self.is_down = False

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.is_down:
            raise httpx.ConnectError("connection refused")
        events = json.loads(request.content)
        self.batches.append(events)
        refused = [{"index": i, "reason": "type"} for i, event in enumerate(events) if event["type"] == "bad"]
        body = {"accepted": len(events) - len(refused), "repeated": 0, "refused": refused, "status": "accepted"}
        return httpx.Response(202, json=body)

    @property
    def item_ids(self) -> list[str]:
        return [event["item_id"] for batch in self.batches for event in batch]

    def open_client(self) -> Client:
        settings = ClientSettings(max_retries=0)
        return Client("http://test", settings=settings, transport=httpx.MockTransport(self), clock=ManualClock(7))


@pytest.fixture
def server() -> Server:
    return Server()


def click(n: int, kind: str = "click") -> dict[str, Any]:
    return {"type": kind, "user_id": "u1", "item_id": f"i{n}"}


def test_full_batch_is_sent_at_once(server: Server) -> None:
    settings = BufferSettings(batch_events=3, interval_s=60.0)
    with server.open_client() as client, client.buffer_events(settings) as buffer:
        for n in range(3):
            buffer.add(click(n))
        wait_until(lambda: buffer.counts.accepted == 3)

    assert [len(batch) for batch in server.batches] == [3]


def test_rest_is_sent_after_the_interval(server: Server) -> None:
    with server.open_client() as client, client.buffer_events(FAST) as buffer:
        buffer.add(click(0))
        wait_until(lambda: buffer.counts.accepted == 1)


def test_closing_sends_what_waits_in_order(server: Server) -> None:
    settings = BufferSettings(batch_events=4, interval_s=60.0)
    with server.open_client() as client, client.buffer_events(settings) as buffer:
        for n in range(10):
            buffer.add(click(n))

    assert server.item_ids == [f"i{n}" for n in range(10)]
    assert max(map(len, server.batches)) <= 4


def test_event_gets_an_id_and_its_time(server: Server) -> None:
    with server.open_client() as client, client.buffer_events(SLOW) as buffer:
        buffer.add(click(0))
        buffer.add(click(1) | {"event_id": "e", "ts": 3})

    first, second = server.batches[0]
    assert first["ts"] == 7
    assert len(first["event_id"]) == 24
    assert (second["event_id"], second["ts"]) == ("e", 3)


def test_events_of_an_outage_are_sent_after_it_with_their_ids(server: Server) -> None:
    server.is_down = True
    with server.open_client() as client, client.buffer_events(FAST) as buffer:
        buffer.add(click(0))
        wait_until(lambda: buffer.counts.failures >= 2)
        server.is_down = False
        buffer.add(click(1))
        wait_until(lambda: buffer.counts.waiting == 0)

    assert server.item_ids == ["i0", "i1"]


def test_full_buffer_refuses_an_event(server: Server) -> None:
    server.is_down = True
    with server.open_client() as client:
        buffer = client.buffer_events(BufferSettings(max_events=2, interval_s=60.0))
        buffer.add(click(0))
        buffer.add(click(1))

        with pytest.raises(BufferFull, match="2 events wait"):
            buffer.add(click(2))
        with pytest.raises(EventsNotSent, match="2 events were not sent") as caught:
            buffer.close()
        assert [json.loads(event)["item_id"] for event in caught.value.events] == ["i0", "i1"]


def test_refused_events_are_counted_and_shown(server: Server) -> None:
    with server.open_client() as client, client.buffer_events(SLOW) as buffer:
        for event in (click(0), click(1, "bad")):
            buffer.add(event)
        buffer.flush()

        assert (buffer.counts.added, buffer.counts.accepted, buffer.counts.refused) == (2, 1, 1)
        assert buffer.last_refusal is not None
        assert buffer.last_refusal.reason == "type"


def test_batch_is_at_most_one_mebibyte(server: Server) -> None:
    with server.open_client() as client, client.buffer_events(SLOW) as buffer:
        for n in range(3):
            buffer.add(click(n) | {"context": {"text": "x" * 400_000}})

    assert [len(batch) for batch in server.batches] == [2, 1]


def run_async(server: Server, use: Callable[[Any], Any], settings: BufferSettings) -> None:
    async def run() -> None:
        transport = httpx.MockTransport(server)
        async with (
            AsyncClient("http://test", settings=ClientSettings(max_retries=0), transport=transport) as client,
            client.buffer_events(settings) as buffer,
        ):
            await use(buffer)

    asyncio.run(run())


def test_async_buffer_sends_in_the_background_and_at_the_end(server: Server) -> None:
    async def use(buffer: Any) -> None:
        buffer.add(click(0))
        async with asyncio.timeout(10):
            while buffer.counts.accepted < 1:
                await asyncio.sleep(0.01)
        buffer.add(click(1))

    run_async(server, use, FAST)

    assert server.item_ids == ["i0", "i1"]


def test_async_buffer_raises_with_the_events_that_were_not_sent(server: Server) -> None:
    async def use(buffer: Any) -> None:
        buffer.add(click(0))

    server.is_down = True
    with pytest.raises(EventsNotSent) as caught:
        run_async(server, use, SLOW)

    assert len(caught.value.events) == 1
