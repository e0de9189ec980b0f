"""Events whose write is under way, for whose outcome a parallel repeat waits."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class WritesUnderWay:
    """Event keys that one request at a time may write."""

    def __init__(self) -> None:
        self._writes: dict[int, asyncio.Future[None]] = {}

    async def wait(self, keys: Sequence[int]) -> None:
        """Return once no other request writes one of these events; its write may have failed."""
        while self._writes and (writes := {self._writes[key] for key in keys if key in self._writes}):
            await asyncio.wait(writes)

    @contextmanager
    def claim(self, keys: Sequence[int]) -> Iterator[None]:
        """Make others wait inside the block; call it right after `wait`."""
        finished = asyncio.get_running_loop().create_future()
        self._writes |= dict.fromkeys(keys, finished)
        try:
            yield
        finally:
            for key in dict.fromkeys(keys):
                del self._writes[key]
            finished.set_result(None)
