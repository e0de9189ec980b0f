"""Wait until the running stream has read new events, and count those that it rejects."""

import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from threading import Event as Signal

import msgspec
import numpy as np

from replay.file_loader import OffsetSpan
from stream.logs import EventLog
from stream.records.batches import EVENT_KINDS
from stream.records.example_blocks import decode_examples, valid_blocks
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES

_GROUP = "stream"
_POLL_S = 0.1
_FIRST_PATIENCE_S = 3.0  # without a single event read: no stream runs
_PATIENCE_S = 15.0  # between two micro-batches
_READ_RECORDS = 4096
_READ_BLOCKS = 32


@dataclass(slots=True)
class StreamOutcome:
    """Fate of the events of one file."""

    written: int = 0
    waiting: int = 0  # not read by any stream process yet
    repeated: int = 0  # identical to an earlier event, skipped
    rejected: Counter[str] = field(default_factory=Counter)  # by reason
    first_rejection: str = ""

    @property
    def accepted(self) -> int:
        """Events that count, repeated ones included, as over HTTP."""
        return self.written - self.waiting - self.rejected.total()


class _DeadLetter(msgspec.Struct):
    reason: str
    detail: str
    partition: int | None = None
    offset: int | None = None


class StreamWatch:
    """Watch the stream from the moment of its creation on."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._dead_letter_start = log.end_offset(DEAD_LETTER, 0)
        self._examples_start = log.end_offsets(EXAMPLES)

    def wait(
        self, spans: Sequence[OffsetSpan], progress: Callable[[int], None], stop: Signal
    ) -> dict[int, StreamOutcome]:
        """Wait while the stream makes progress; returns the outcome by file.

        It gives up when `stop` is set, and after 3 seconds in which nothing of the first events was read. `progress`
        gets the number of events that were read so far.
        """
        total = sum(span.end - span.first for span in spans)
        start = self._count_read(spans)
        n_read, last_change = start, time.monotonic()
        while n_read < total and not stop.is_set():
            patience = _PATIENCE_S if n_read > start else _FIRST_PATIENCE_S
            if time.monotonic() - last_change > patience:
                break
            stop.wait(_POLL_S)
            if (now_read := self._count_read(spans)) != n_read:
                n_read, last_change = now_read, time.monotonic()
            progress(n_read)
        return self._collect(spans)

    def _positions(self) -> dict[int, int]:
        return {number: position.offset for number, position in self._log.committed(EVENTS, _GROUP).items()}

    def _count_read(self, spans: Sequence[OffsetSpan]) -> int:
        positions = self._positions()
        return sum(_count_below(span, positions.get(span.partition, 0)) for span in spans)

    def _collect(self, spans: Sequence[OffsetSpan]) -> dict[int, StreamOutcome]:
        positions = self._positions()
        outcomes: dict[int, StreamOutcome] = {}
        for span in spans:
            outcome = outcomes.setdefault(span.file, StreamOutcome())
            outcome.written += span.end - span.first
            outcome.waiting += span.end - span.first - _count_below(span, positions.get(span.partition, 0))
        self._add_rejections(spans, outcomes)
        n_new = self._count_new(spans)
        for file, outcome in outcomes.items():
            outcome.repeated = max(0, outcome.accepted - n_new[file])
        return outcomes

    def _count_new(self, spans: Sequence[OffsetSpan]) -> Counter[int]:
        """Count the events that the stream made examples of, by file; repeated ones are not."""
        counts: Counter[int] = Counter()
        for partition, own_spans in groupby(sorted(spans, key=_place), attrgetter("partition")):
            bounds = [(span.first, span.end, span.file) for span in own_spans]
            first, end, _ = np.array(bounds).T
            for offsets in self._read_event_offsets(partition):
                span = np.searchsorted(first, offsets, side="right") - 1
                span = span[(span >= 0) & (offsets < end[span])]
                for number, count in enumerate(np.bincount(span).tolist()):
                    counts[bounds[number][2]] += count
        return counts

    def _read_event_offsets(self, partition: int) -> Iterator[np.ndarray]:
        """Offsets of the events in each block of examples since the beginning of the watch."""
        offset, end = self._examples_start[partition], self._log.end_offset(EXAMPLES, partition)
        while offset < end:
            records = self._log.read(EXAMPLES, partition, offset, min(_READ_BLOCKS, end - offset))
            if not len(records):
                return
            offset = records.offsets[-1] + 1
            for block in valid_blocks(records):
                _, batch = decode_examples(block)
                yield batch.offset[np.isin(batch.kind, EVENT_KINDS)]

    def _add_rejections(self, spans: Sequence[OffsetSpan], outcomes: dict[int, StreamOutcome]) -> None:
        ordered = sorted(spans, key=_place)
        starts = list(map(_place, ordered))
        offset, end = self._dead_letter_start, self._log.end_offset(DEAD_LETTER, 0)
        while offset < end:
            records = self._log.read(DEAD_LETTER, 0, offset, min(_READ_RECORDS, end - offset))
            if not len(records):
                return
            offset = records.offsets[-1] + 1
            for value in records.values:
                letter = msgspec.json.decode(value or b"null", type=_DeadLetter | None)
                if letter is None or letter.partition is None or letter.offset is None:
                    continue
                i = bisect_right(starts, (letter.partition, letter.offset)) - 1
                if i >= 0 and ordered[i].partition == letter.partition and letter.offset < ordered[i].end:
                    outcome = outcomes[ordered[i].file]
                    outcome.rejected[letter.reason] += 1
                    outcome.first_rejection = outcome.first_rejection or letter.detail


def _place(span: OffsetSpan) -> tuple[int, int]:
    return span.partition, span.first


def _count_below(span: OffsetSpan, position: int) -> int:
    return max(0, min(position, span.end) - span.first)
