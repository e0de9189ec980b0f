"""Fakes for tests, with the same protocols as the drivers: a log, a store, a clock, and a crash as a value."""

import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from stream.clock import Clock, ManualClock
from stream.logs import TOMBSTONE_AGE_MS, Position, Record, Records, Revoked, checked_name
from stream.stores import Mark, checked_keys, checked_values, overtaken

__all__ = ["Crash", "Crashed", "ManualClock", "MemoryLog", "MemorySource", "MemoryStore"]


@dataclass(frozen=True, slots=True)
class Crash:
    """Stands between two records of a topic: the first source that gets there raises `Crashed`. It takes no offset."""


class Crashed(RuntimeError):
    """The process died here, as far as a test is concerned; the source is closed and has left its group."""


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


class MemorySource:
    """A `Source` of a `MemoryLog`. `assign` plays the broker that moves partitions between readers."""

    def __init__(
        self, log: MemoryLog, topic: str, group: str | None, partitions: Sequence[int], revoked: Revoked | None
    ) -> None:
        self._log = log
        self._topic = topic
        self._group = group
        self._revoked = revoked
        self._next: dict[int, int] = {}
        self._assigned: frozenset[int] | None = None
        self._gain(frozenset(partitions))

    def assign(self, partitions: Sequence[int]) -> None:
        """From the next `next_batch` on, hold exactly these partitions."""
        self._assigned = frozenset(partitions)

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        if self._assigned is not None:
            self._rebalance(self._assigned)
        deadline = time.monotonic() + timeout
        while True:
            batch = self._read(limit)
            left = deadline - time.monotonic()
            if batch or left <= 0:
                return batch
            self._log.wait(min(left, 0.005))

    def _read(self, limit: int) -> list[Records]:
        batch: list[Records] = []
        for partition, at in self._next.items():
            count = self._log.crash_at(self._topic, partition, at, limit)
            if count == 0 and limit and not batch:
                self._crash(partition, at)
            if count == 0:
                continue
            records = self._log.read(self._topic, partition, at, count)
            if records:
                self._next[partition] = records.offsets[-1] + 1
                limit -= len(records)
                batch.append(records)
        return batch

    def _crash(self, partition: int, at: int) -> None:
        if self._log.spend_crash(self._topic, partition, at):
            self.close()
            raise Crashed(f"topic {self._topic!r}, partition {partition}, before offset {at}")

    def _rebalance(self, partitions: frozenset[int]) -> None:
        lost = frozenset(self._next) - partitions
        if lost and self._revoked:
            self._revoked(lost)
        for partition in lost:
            del self._next[partition]
        self._gain(partitions - frozenset(self._next))
        self._assigned = None

    def _gain(self, partitions: frozenset[int]) -> None:
        committed = {} if self._group is None else self._log.committed(self._topic, self._group)
        for partition in sorted(partitions):
            start = self._log.start(self._topic, partition)
            self._next[partition] = committed[partition].offset if partition in committed else start

    def snapshot(self) -> dict[int, int]:
        return dict(self._next)

    def seek(self, partition: int, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, got {offset}")
        self._next[self._held(partition)] = offset

    def commit(self, positions: Mapping[int, Position]) -> None:
        if self._group is None:
            raise ValueError("a source without a group has nothing to commit to: open it with a group")
        for partition in positions:
            self._held(partition)
        self._log.commit(self._topic, self._group, positions)

    def committed(self) -> dict[int, Position]:
        if self._group is None:
            return {}
        found = self._log.committed(self._topic, self._group)
        return {partition: at for partition, at in found.items() if partition in self._next}

    def close(self) -> None:
        if self._group is not None:
            self._log.leave(self._topic, self._group)

    def _held(self, partition: int) -> int:
        if partition not in self._next:
            raise ValueError(f"partition {partition} is not held here; held are {sorted(self._next)}")
        return partition


class MemoryStore:
    """A `UserStore` in memory, for one process.

    >>> store = MemoryStore()
    >>> store.put_many(np.array([7], np.uint64), [b"state"])
    >>> store.get(7)
    b'state'
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[int, bytes] = {}
        self._marks: dict[int, str] = {}

    def get(self, key: int) -> bytes | None:
        return self._values.get(key)

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        return [self._values.get(key) for key in checked_keys(keys).tolist()]

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        checked_values(keys, values)
        with self._lock:
            for mark in marks:
                if self._marks.get(mark.partition, "") != mark.before:
                    raise overtaken(mark, self._marks.get(mark.partition, ""), "memory")
            self._marks |= {mark.partition: mark.after for mark in marks}
            self._values.update(zip(keys.tolist(), values, strict=True))

    def mark(self, partition: int) -> str:
        return self._marks.get(partition, "")

    def claim(self, partition: int) -> str:
        return self.mark(partition)

    def trouble(self) -> str:
        return ""

    def delete_many(self, keys: np.ndarray) -> None:
        with self._lock:
            for key in checked_keys(keys).tolist():
                self._values.pop(key, None)

    def scan(self) -> Iterator[tuple[int, bytes]]:
        for key in sorted(self._values):
            value = self._values.get(key)
            if value is not None:
                yield key, value

    def count(self) -> int:
        return len(self._values)

    def close(self) -> None:
        """The values stay: a test may go on with the same store."""
