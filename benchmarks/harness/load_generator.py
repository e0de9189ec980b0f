"""A load generator that does not wait: each request leaves at its time, whatever became of those before it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import uvloop

_PATIENCE = 10.0  # seconds after which what is still unanswered counts as an error


@dataclass(slots=True)
class Answered:
    """What became of the requests of one run."""

    milliseconds: list[float] = field(default_factory=list)  # from the time a request was due to its answer
    errors: int = 0  # other status than 2xx, closed connections, no answer in time


class _Connection(asyncio.Protocol):
    """One request at a time over a connection that is kept."""

    def __init__(self) -> None:
        self._held = b""
        self._told: Callable[[int], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes, told: Callable[[int], None]) -> None:
        self._told = told
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._held += data
        head, end, body = self._held.partition(b"\r\n\r\n")
        if end and len(body) >= _length(head):
            self._held = b""
            self._tell(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self._tell(0)

    def close(self) -> None:
        self._told = None
        self._transport.close()

    def _tell(self, status: int) -> None:
        told, self._told = self._told, None
        if told:
            told(status)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        if line[:15].lower() == b"content-length:":
            return int(line[15:])
    return 0


def posted(port: int, path: str, body: bytes) -> bytes:
    """A request as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def sent(port: int, requests: list[bytes], rate: float, connections: int = 64) -> Answered:
    """Send the requests at `rate` a second to 127.0.0.1; one that finds no free connection waits, which counts."""
    return uvloop.run(_sent(port, requests, rate, connections))


async def _sent(port: int, requests: list[bytes], rate: float, connections: int) -> Answered:
    loop, answered = asyncio.get_running_loop(), Answered()
    free = [(await loop.create_connection(_Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    everyone = list(free)
    waiting: deque[tuple[bytes, float]] = deque()
    done = asyncio.Event()
    left = len(requests)

    def go(connection: _Connection, request: bytes, due: float) -> None:
        def told(status: int) -> None:
            nonlocal left
            if 200 <= status < 300:
                answered.milliseconds.append(1e3 * (time.perf_counter() - due))
            else:
                answered.errors += 1
            left -= 1
            if left == 0:
                done.set()
            if status and waiting:
                go(connection, *waiting.popleft())
            elif status:
                free.append(connection)

        connection.send(request, told)

    begin = time.perf_counter() + 0.05
    for i, request in enumerate(requests):
        due = begin + i / rate
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        elif i % 16 == 0:
            await asyncio.sleep(0)
        if free:
            go(free.pop(), request, due)
        else:
            waiting.append((request, due))
    try:
        await asyncio.wait_for(done.wait(), _PATIENCE)
    except TimeoutError:
        answered.errors += left
    for connection in everyone:
        connection.close()
    return answered
