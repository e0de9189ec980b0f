"""Event log in memory, for one process, in which a crash is a value."""

import threading
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stream.clock import Clock, ManualClock, next_append_time
from stream.logs import TOMBSTONE_AGE_MS, Position, Record, Records, RevokeCallback, TopicProblem, validate_name
from stream.memory.source import MemorySource


@dataclass(frozen=True, slots=True)
class Crash:
    """Crash between two records of a topic; the first source to reach it raises `Crashed`."""


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
    """`EventLog` in memory, for one process.

    Topics given here have one partition; a bare value has no key.

    >>> log = MemoryLog({"events": [b"a", (b"key", b"b"), Crash(), b"c"]})
    >>> log.open_source("events", "group").next_batch(limit=10, timeout=0.0)[0].values
    [b'a', b'b']
    """

    def __init__(
        self,
        topics: Mapping[str, Sequence[bytes | Record | Crash]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or ManualClock()
        self._condition = threading.Condition()
        self._topics: dict[str, _Topic] = {}
        self._positions: dict[tuple[str, str], dict[int, Position]] = {}  # by group and topic
        self._members: set[tuple[str, str]] = set()
        for topic, entries in (topics or {}).items():
            self.create(topic, 1)
            self.append_entries(topic, entries)

    def append_entries(self, topic: str, entries: Sequence[bytes | Record | Crash], partition: int = 0) -> None:
        """Append values, records and crashes in order; a bare value gets no key."""
        for entry in entries:
            if isinstance(entry, Crash):
                self._partition(topic, partition).crashes.append(self.end_offset(topic, partition))
            else:
                self.append(topic, partition, [(None, entry) if isinstance(entry, bytes) else entry])

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        if partitions < 1:
            raise ValueError(f"partitions of topic {topic!r} must be at least 1, got {partitions}")
        with self._condition:
            new_topic = _Topic([_Partition() for _ in range(partitions)], compacted)
            count = len(self._topics.setdefault(validate_name("topic", topic), new_topic).partitions)
        if count != partitions:
            raise ValueError(f"topic {topic!r} has {count} partitions, expected {partitions}")

    def topic_id(self, topic: str) -> str:
        return f"memory-{topic}" if topic in self._topics else ""

    def partitions(self, topic: str) -> int:
        return len(self._topic(topic).partitions)

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return self.append_many(topic, {partition: records})[partition]

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        for records in batches.values():
            for entry in (entry for record in records for entry in record):
                if not isinstance(entry, bytes | None):
                    raise TypeError(f"keys and values must be bytes or None, got {type(entry).__name__}")
        with self._condition:
            targets = {number: self._partition(topic, number) for number in batches}
            first_offsets = {number: partition.end for number, partition in targets.items()}
            for number, partition in targets.items():
                partition.time = next_append_time(partition.time, self._clock.now_ms())
                for record in batches[number]:
                    partition.rows.append((partition.end, partition.time, record))
                    partition.end += 1
            self._condition.notify_all()
            return first_offsets

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        with self._condition:
            all_rows = self._partition(topic, partition).rows
            begin = bisect_left(all_rows, offset, key=lambda row: row[0])
            rows = all_rows[begin : begin + limit]
        return Records(
            partition,
            [offset for offset, _, _ in rows],
            [key for _, _, (key, _) in rows],
            [value for _, _, (_, value) in rows],
            [time for _, time, _ in rows],
        )

    def start_offset(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition).start

    def end_offset(self, topic: str, partition: int) -> int:
        return self._partition(topic, partition).end

    def end_offsets(self, topic: str) -> dict[int, int]:
        return {partition: self.end_offset(topic, partition) for partition in range(self.partitions(topic))}

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        log_partition = self._partition(topic, partition)
        return next((offset for offset, time, _ in log_partition.rows if time >= ts), log_partition.end)

    def open_source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        on_revoke: RevokeCallback | None = None,
    ) -> "MemorySource":
        selection = range(self.partitions(topic)) if partitions is None else partitions
        for partition in selection:
            self._partition(topic, partition)
        if group is not None:
            self.join(topic, validate_name("group", group))
        return MemorySource(self, topic, group, selection, on_revoke)

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        return dict(self._positions.get((group, topic), {}))

    def trim(self, topic: str, partition: int, before: int) -> None:
        with self._condition:
            log_partition = self._partition(topic, partition)
            log_partition.start = max(log_partition.start, min(log_partition.end, before))
            log_partition.rows = [row for row in log_partition.rows if row[0] >= log_partition.start]

    def trim_older(self, topic: str, ts: int) -> None:
        for partition in range(self.partitions(topic)):
            self.trim(topic, partition, self.offset_for_time(topic, partition, ts))

    def compact(self, topic: str, before: int) -> None:
        log_topic = self._topic(topic)
        if not log_topic.compacted:
            raise ValueError(f"topic {topic!r} is not compacted: create it with compacted=True")
        tombstones_before = min(before, self._clock.now_ms() - TOMBSTONE_AGE_MS)
        with self._condition:
            for partition in log_topic.partitions:
                newest = {record[0]: offset for offset, _, record in partition.rows}
                partition.rows = [
                    (offset, time, (key, value))
                    for offset, time, (key, value) in partition.rows
                    if (key is None or newest[key] == offset or time >= before)
                    and (value is not None or time >= tombstones_before or offset == partition.end - 1)
                ]

    def topic_problems(self, retention: float = 0.0) -> list[TopicProblem]:
        return []

    def close(self) -> None:
        """Keep the records, so that a test can use the same log again."""

    # For MemorySource.

    def join(self, topic: str, group: str) -> None:
        with self._condition:
            if (group, topic) in self._members:
                raise BlockingIOError(f"group {group!r} already reads topic {topic!r} in this process")
            self._members.add((group, topic))

    def leave(self, topic: str, group: str) -> None:
        with self._condition:
            self._members.discard((group, topic))

    def commit(self, topic: str, group: str, positions: Mapping[int, Position]) -> None:
        with self._condition:
            self._positions.setdefault((group, topic), {}).update(positions)

    def records_before_crash(self, topic: str, partition: int, offset: int, limit: int) -> int:
        """Number of records, up to `limit`, between an offset and the next crash."""
        end = next((crash for crash in self._partition(topic, partition).crashes if crash >= offset), offset + limit)
        return min(limit, end - offset)

    def consume_crash(self, topic: str, partition: int, offset: int) -> bool:
        with self._condition:
            crashes = self._partition(topic, partition).crashes
            due = offset in crashes
            if due:
                crashes.remove(offset)
            return due

    def wait(self, timeout: float) -> None:
        with self._condition:
            self._condition.wait(timeout)

    def _topic(self, topic: str) -> _Topic:
        if topic not in self._topics:
            raise ValueError(f"topic {topic!r} does not exist in this log: create it first")
        return self._topics[topic]

    def _partition(self, topic: str, partition: int) -> _Partition:
        all_partitions = self._topic(topic).partitions
        if not 0 <= partition < len(all_partitions):
            raise ValueError(f"topic {topic!r} has partitions 0 to {len(all_partitions) - 1}, got {partition}")
        return all_partitions[partition]
