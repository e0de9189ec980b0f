"""An event log in memory, for one process, in which a crash is a value."""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream.clock import Clock, ManualClock
from stream.logs import TOMBSTONE_AGE_MS, Position, Record, Records, Revoked, checked_name
from stream.memory.source import MemorySource


@dataclass(frozen=True, slots=True)
class Crash:
    """Stands between two records of a topic: the first source that gets there raises `Crashed`. It takes no offset."""


@dataclass(slots=True)
class _Partition:
    start: int = 0
    end: int = 0
    time: int = 0
    rows: list[tuple[int, int, Record]] = field(default_factory=list)  # offset, time, record
    crashes: list[int] = field(default_factory=list)  # offset before which to crash, ascending


@dataclass(frozen=True, slots=True)
class _Topic:
    partitions: list[_Partition]
    compacted: bool


class MemoryLog:
    """An `EventLog` in memory, for one process. Given topics have one partition; a bare value has no key.

    >>> log = MemoryLog({"events": [b"a", (b"key", b"b"), Crash(), b"c"]})
    >>> log.source("events", "group").next_batch(limit=10, timeout=0.0)[0].values
    [b'a', b'b']
    """

    def __init__(
        self,
        topics: Mapping[str, Sequence[bytes | Record | Crash]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or ManualClock()
        self._changed = threading.Condition()
        self._topics: dict[str, _Topic] = {}
        self._positions: dict[tuple[str, str], dict[int, Position]] = {}  # by group and topic
        self._members: set[tuple[str, str]] = set()
        for topic, entries in (topics or {}).items():
            self.create(topic, 1)
            for entry in entries:
                if isinstance(entry, Crash):
                    self._partition(topic, 0).crashes.append(self.end(topic, 0))
                else:
                    self.append(topic, 0, [(None, entry) if isinstance(entry, bytes) else entry])

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        if partitions < 1:
            raise ValueError(f"partitions must be at least 1, got {partitions}")
        with self._changed:
            made = _Topic([_Partition() for _ in range(partitions)], compacted)
            found = len(self._topics.setdefault(checked_name("topic", topic), made).partitions)
        if found != partitions:
            raise ValueError(f"topic {topic!r} has {found} partitions, asked for {partitions}")

    def partitions(self, topic: str) -> int:
        return len(self._topic(topic).partitions)

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return self.append_many(topic, {partition: records})[partition]

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        for records in batches.values():
            for entry in (entry for record in records for entry in record):
                if not isinstance(entry, bytes | None):
                    raise TypeError(f"keys and values must be bytes or None, got {type(entry).__name__}")
        with self._changed:
            chosen = {number: self._partition(topic, number) for number in batches}
            firsts = {number: partition.end for number, partition in chosen.items()}
            for number, partition in chosen.items():
                partition.time = max(partition.time, self._clock.now_ms())
                for record in batches[number]:
                    partition.rows.append((partition.end, partition.time, record))
                    partition.end += 1
            self._changed.notify_all()
            return firsts

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with self._changed:
            held = self._partition(topic, partition).rows
            begin = bisect_left(held, offset, key=lambda row: row[0])
            rows = held[begin : begin + limit]
        return Records(
            partition,
            [offset for offset, _, _ in rows],
            [key for _, _, (key, _) in rows],
            [value for _, _, (_, value) in rows],
            [time for _, time, _ in rows],
        )

    def start(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition).start

    def end(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition).end

    def ends(self, topic: str) -> dict[int, int]:
        return {partition: self.end(topic, partition) for partition in range(self.partitions(topic))}

    def find_time(self, topic: str, partition: int, ts: int) -> int:
        found = self._partition(topic, partition)
        return next((offset for offset, time, _ in found.rows if time >= ts), found.end)

    def source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        revoked: Revoked | None = None,
    ) -> "MemorySource":
        held = range(self.partitions(topic)) if partitions is None else partitions
        for partition in held:
            self._partition(topic, partition)
        if group is not None:
            self.join(topic, checked_name("group", group))
        return MemorySource(self, topic, group, held, revoked)

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        return dict(self._positions.get((group, topic), {}))

    def trim(self, topic: str, partition: int, before: int) -> None:
        with self._changed:
            found = self._partition(topic, partition)
            found.start = max(found.start, min(found.end, before))
            found.rows = [row for row in found.rows if row[0] >= found.start]

    def trim_older(self, topic: str, ts: int) -> None:
        for partition in range(self.partitions(topic)):
            self.trim(topic, partition, self.find_time(topic, partition, ts))

    def compact(self, topic: str, before: int) -> None:
        found = self._topic(topic)
        if not found.compacted:
            raise ValueError(f"topic {topic!r} was not created as a compacted one")
        ended = min(before, self._clock.now_ms() - TOMBSTONE_AGE_MS)
        with self._changed:
            for partition in found.partitions:
                newest = {record[0]: offset for offset, _, record in partition.rows}
                partition.rows = [
                    (offset, time, (key, value))
                    for offset, time, (key, value) in partition.rows
                    if (key is None or newest[key] == offset or time >= before)
                    and (value is not None or time >= ended or offset == partition.end - 1)
                ]

    def close(self) -> None:
        """The records stay: a test may open the same log again."""

    # What a source asks of its log.

    def join(self, topic: str, group: str) -> None:
        with self._changed:
            if (group, topic) in self._members:
                raise BlockingIOError(f"group {group!r} already reads topic {topic!r} in this process")
            self._members.add((group, topic))

    def leave(self, topic: str, group: str) -> None:
        with self._changed:
            self._members.discard((group, topic))

    def commit(self, topic: str, group: str, positions: Mapping[int, Position]) -> None:
        with self._changed:
            self._positions.setdefault((group, topic), {}).update(positions)

    def crash_at(self, topic: str, partition: int, offset: int, limit: int) -> int:
        """How many records a read of up to `limit` gets before the next crash."""
        end = next((crash for crash in self._partition(topic, partition).crashes if crash >= offset), offset + limit)
        return min(limit, end - offset)

    def spend_crash(self, topic: str, partition: int, offset: int) -> bool:
        with self._changed:
            crashes = self._partition(topic, partition).crashes
            due = offset in crashes
            if due:
                crashes.remove(offset)
            return due

    def wait(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait(timeout)

    def _topic(self, topic: str) -> _Topic:
        if topic not in self._topics:
            raise ValueError(f"topic {topic!r} is not in this log: create it first")
        return self._topics[topic]

    def _partition(self, topic: str, partition: int) -> _Partition:
        found = self._topic(topic).partitions
        if not 0 <= partition < len(found):
            raise ValueError(f"topic {topic!r} has partitions 0 to {len(found) - 1}, got {partition}")
        return found[partition]
