"""Open-loop load generator: requests are sent on schedule, without waiting for responses."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop

_TIMEOUT_S = 10.0  # unanswered requests count as errors after this time


@dataclass(slots=True)
class RequestStats:
    """Latencies and errors of one run."""

    latencies_ms: list[float] = field(default_factory=list)  # from the scheduled time of a request to its response
    errors: int = 0  # status other than 2xx, closed connections, timeouts


class _Connection(asyncio.Protocol):
    """Keep-alive connection with one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._on_response: Callable[[int], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, on_response: Callable[[int], None]) -> None:
        self._on_response = on_response
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._buffer = b""
            self._notify(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self._notify(0)

    def close(self) -> None:
        self._on_response = None
        self._transport.close()

    def _notify(self, status: int) -> None:
        on_response, self._on_response = self._on_response, None
        if on_response:
            on_response(status)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


def encode_post(port: int, path: str, body: bytes) -> bytes:
    """Encode a POST request with its HTTP header."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def send_requests(port: int, requests: list[bytes], rate: float, connections: int = 64) -> RequestStats:
    """Send `rate` requests/s to 127.0.0.1; waiting for a free connection counts as latency."""
    return uvloop.run(_send_requests(port, requests, rate, connections))


async def _send_requests(port: int, requests: list[bytes], rate: float, connections: int) -> RequestStats:
    loop, stats = asyncio.get_running_loop(), RequestStats()
    free_connections = [(await loop.create_connection(_Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    all_connections = list(free_connections)
    queue: deque[tuple[bytes, float]] = deque()
    done = asyncio.Event()
    remaining = len(requests)

    def dispatch(connection: _Connection, request: bytes, due: float) -> None:
        def on_response(status: int) -> None:
            nonlocal remaining
            if 200 <= status < 300:
                stats.latencies_ms.append(1e3 * (time.perf_counter() - due))
            else:
                stats.errors += 1
            remaining -= 1
            if remaining == 0:
                done.set()
            if status and queue:
                dispatch(connection, *queue.popleft())
            elif status:
                free_connections.append(connection)

        connection.send(request, on_response)

    begin = time.perf_counter() + 0.05
    for i, request in enumerate(requests):
        due = begin + i / rate
        if (wait_seconds := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait_seconds)
        elif i % 16 == 0:
            await asyncio.sleep(0)
        if free_connections:
            dispatch(free_connections.pop(), request, due)
        else:
            queue.append((request, due))
    try:
        await asyncio.wait_for(done.wait(), _TIMEOUT_S)
    except TimeoutError:
        stats.errors += remaining
    for connection in all_connections:
        connection.close()
    return stats
