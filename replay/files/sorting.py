"""Sort events by time on disk, in bounded memory."""

import heapq
import tempfile
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import IO

from stream.records.events import Event

_CHUNK_EVENTS = 500_000  # about 200 MB
SortedEvent = tuple[int, int, bytes]  # ts, file, line


class EventSorter:
    """Collect events, then iterate over them in time order; equal times keep their order.

    >>> sorter = EventSorter(chunk_events=2)
    >>> sorter.add([7, 3, 5], [b"a", b"b", b"c"], file=0)
    >>> [line for ts, file, line in sorter]
    [b'b', b'c', b'a']
    """

    def __init__(self, chunk_events: int = _CHUNK_EVENTS) -> None:
        self._chunk_events = chunk_events
        self._chunk: list[SortedEvent] = []
        self._files: list[IO[bytes]] = []

    def add(self, times: Sequence[int], lines: Sequence[bytes], file: int) -> None:
        for ts, line in zip(times, lines, strict=True):
            self._chunk.append((ts, file, line))
            if len(self._chunk) >= self._chunk_events:
                self._spill()

    def add_events(self, events: Sequence[Event], lines: Sequence[bytes], file: int) -> None:
        self.add([event.ts for event in events], lines, file)

    def __iter__(self) -> Iterator[SortedEvent]:
        self._chunk.sort(key=itemgetter(0))
        yield from heapq.merge(*map(_read, self._files), self._chunk, key=itemgetter(0))
        self.close()

    def close(self) -> None:
        """Delete the temporary files."""
        for file in self._files:
            file.close()

    def _spill(self) -> None:
        """Write the chunk in order to a temporary file."""
        self._chunk.sort(key=itemgetter(0))
        file = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        file.writelines(b"%d\t%d\t%b\n" % event for event in self._chunk)
        self._files.append(file)
        self._chunk = []


def _read(file: IO[bytes]) -> Iterator[SortedEvent]:
    file.seek(0)
    for row in file:
        ts, index, line = row.split(b"\t", 2)
        yield int(ts), int(index), line[:-1]
