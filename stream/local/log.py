"""Embedded event log: a folder of SQLite files, one per topic, shared by several processes."""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stream.clock import Clock
from stream.local.sqlite import NoSuchDatabase, SQLiteDatabase
from stream.local.topic import LocalTopic, create_topic
from stream.logs import TOMBSTONE_AGE_MS, Position, Record, Records, RevokeCallback, TopicProblem, validate_name
from stream.process.locks import write_holder

_POSITIONS_VERSION = 1
_POSITIONS_SCHEMA = (
    'CREATE TABLE positions ("group" TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL,'
    ' metadata TEXT NOT NULL, PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID',
)
_POLL_INTERVALS = (0.001, 0.005)  # seconds: just after a record, and long after the last one


def open_url(url: str, prefix: str, clock: Clock) -> "LocalLog":
    folder = url.removeprefix("local:")
    if not folder:
        raise ValueError(f"log URL must name a folder, as in local:data/log, got {url!r}")
    return LocalLog(Path(folder).expanduser(), prefix, clock)


class LocalLog:
    """`EventLog` in a folder.

    A group has one reading process per topic; its lock is freed when that process dies.
    """

    def __init__(self, folder: Path, prefix: str, clock: Clock) -> None:
        self._folder = folder
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._topics: dict[str, LocalTopic] = {}
        self._sources: list[LocalSource] = []
        self._positions = SQLiteDatabase(folder / "positions.db", _POSITIONS_SCHEMA, _POSITIONS_VERSION, page_size=4096)

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        create_topic(self._path(topic), partitions, compacted, durable)
        count = self._topic(topic).partitions
        if count != partitions:
            raise ValueError(f"topic {topic!r} in {self._folder} has {count} partitions, expected {partitions}")

    def topic_id(self, topic: str) -> str:
        return self._topic(topic).id if self._path(topic).exists() else ""

    def partitions(self, topic: str) -> int:
        return self._topic(topic).partitions

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return self.append_many(topic, {partition: records})[partition]

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        return self._topic(topic).append_many(batches, self._clock.now_ms())

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        local_topic = self._topic(topic)
        return local_topic.read(local_topic.validate_partition(partition), offset, limit)

    def start_offset(self, topic: str, partition: int) -> int:
        local_topic = self._topic(topic)
        return local_topic.bounds()[local_topic.validate_partition(partition)][0]

    def end_offset(self, topic: str, partition: int) -> int:
        local_topic = self._topic(topic)
        return local_topic.bounds()[local_topic.validate_partition(partition)][1]

    def end_offsets(self, topic: str) -> dict[int, int]:
        return {partition: end for partition, (_, end) in self._topic(topic).bounds().items()}

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        local_topic = self._topic(topic)
        return local_topic.offset_for_time(local_topic.validate_partition(partition), ts)

    def open_source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        on_revoke: RevokeCallback | None = None,
    ) -> "LocalSource":
        local_topic = self._topic(topic)
        selection = (
            range(local_topic.partitions)
            if partitions is None
            else [local_topic.validate_partition(partition) for partition in partitions]
        )
        source = LocalSource(local_topic, selection, None if group is None else self._group(topic, group))
        with self._lock:
            self._sources = [*(other for other in self._sources if not other.closed), source]
        return source

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        return _read_committed(self._positions, self._prefix + group, self._prefix + topic)

    def trim(self, topic: str, partition: int, before: int) -> None:
        local_topic = self._topic(topic)
        local_topic.trim(local_topic.validate_partition(partition), before)

    def trim_older(self, topic: str, ts: int) -> None:
        local_topic = self._topic(topic)
        for partition in range(local_topic.partitions):
            local_topic.trim(partition, local_topic.offset_for_time(partition, ts))

    def compact(self, topic: str, before: int) -> None:
        local_topic = self._topic(topic)
        if not local_topic.compacted:
            raise ValueError(f"topic {topic!r} is not compacted: create it with compacted=True")
        local_topic.compact(before, self._clock.now_ms() - TOMBSTONE_AGE_MS)

    def topic_problems(self, retention: float = 0.0) -> list[TopicProblem]:
        return []

    def close(self) -> None:
        for source in self._sources:
            source.close()
        with self._lock:
            for topic in self._topics.values():
                topic.close()
            self._topics.clear()
        self._positions.close()

    def _topic(self, topic: str) -> LocalTopic:
        with self._lock:
            if topic not in self._topics:
                try:
                    self._topics[topic] = LocalTopic(self._path(topic))
                except NoSuchDatabase:
                    raise ValueError(f"topic {topic!r} does not exist in {self._folder}: create it first") from None
            return self._topics[topic]

    def _path(self, topic: str) -> Path:
        return self._folder / f"{validate_name('topic', self._prefix + topic)}.topic.db"

    def _group(self, topic: str, group: str) -> "_Group":
        return _Group(self._folder, self._positions, self._prefix + topic, validate_name("group", self._prefix + group))


class _Group:
    """Positions of a group in a topic, with the lock that excludes a second process."""

    def __init__(self, folder: Path, positions: SQLiteDatabase, topic: str, name: str) -> None:
        self.topic = topic
        self.name = name
        self._positions = positions
        self._lock = os.open(folder / f"{topic}@{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode() or "unknown"
            os.close(self._lock)
            message = f"group {name!r} already reads topic {topic!r} in process {holder}: stop it, or use another group"
            raise BlockingIOError(errno.EWOULDBLOCK, message, str(folder)) from None
        write_holder(self._lock)

    def committed(self) -> dict[int, Position]:
        return _read_committed(self._positions, self.name, self.topic)

    def commit(self, positions: Mapping[int, Position]) -> None:
        rows = [
            (self.name, self.topic, partition, position.offset, position.metadata)
            for partition, position in positions.items()
        ]
        with self._positions.write_transaction() as db:
            db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)", rows)

    def check_positions(self, committed: Mapping[int, Position], bounds: Mapping[int, tuple[int, int]]) -> None:
        """Raise an error if the group is ahead of its topic, because it would skip the next records."""
        for partition, position in committed.items():
            end = bounds[partition][1]
            if position.offset > end:
                raise ValueError(
                    f"group {self.name!r} has read topic {self.topic!r}, partition {partition}, up to offset "
                    f"{position.offset}, but it ends at {end}: restore the topic's file, or remove "
                    f"{self._positions.path} to let every group start over"
                )

    def leave(self) -> None:
        os.close(self._lock)


def _read_committed(positions: SQLiteDatabase, group: str, topic: str) -> dict[int, Position]:
    query = 'SELECT partition, offset, metadata FROM positions WHERE "group" = ? AND topic = ?'
    rows = positions.reader.fetch_all(query, (group, topic))
    return {partition: Position(offset, note) for partition, offset, note in rows}


class LocalSource:
    """`Source` of a `LocalLog`.

    Partitions share a batch evenly; unused shares go to partitions with a larger lag.
    """

    def __init__(self, topic: LocalTopic, partitions: Sequence[int], group: _Group | None) -> None:
        self._topic = topic
        self._group = group
        self._next = dict.fromkeys(partitions, 0)
        self._last_batch_at = time.monotonic()
        self.closed = False
        self._reader = topic.open_reader()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        bounds = self._topic.bounds()
        committed = self.committed() if self._group else {}
        if self._group:
            self._group.check_positions(committed, bounds)
        for partition in self._next:
            self._next[partition] = committed[partition].offset if partition in committed else bounds[partition][0]

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        deadline = time.monotonic() + timeout
        while True:
            version = self._reader.data_version()  # before the read, so that later appends change it
            batch = self._read(limit)
            if batch:
                self._last_batch_at = time.monotonic()
                return batch
            while self._reader.data_version() == version:
                now = time.monotonic()
                if now >= deadline:
                    return []
                pause = min(max(_POLL_INTERVALS[0], (now - self._last_batch_at) / 10), _POLL_INTERVALS[1])
                time.sleep(min(pause, deadline - now))

    def _read(self, limit: int) -> list[Records]:
        bounds = self._topic.bounds(self._reader)
        lagging = sorted((bounds[partition][1] - offset, partition) for partition, offset in self._next.items())
        lagging = [(lag, partition) for lag, partition in lagging if lag > 0]
        batch = []
        for n_left, (_, partition) in zip(range(len(lagging), 0, -1), lagging, strict=True):
            if limit == 0:
                break
            share = -(-limit // n_left)
            records = self._topic.read(partition, self._next[partition], share, self._reader)
            self._next[partition] = records.offsets[-1] + 1 if records else bounds[partition][1]
            limit -= len(records)
            if records:
                batch.append(records)
        return batch

    def snapshot(self) -> dict[int, int]:
        return dict(self._next)

    def seek(self, partition: int, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, got {offset}")
        self._next[self._check_assigned(partition)] = offset

    def commit(self, positions: Mapping[int, Position]) -> None:
        if self._group is None:
            raise ValueError("a source without a group has nothing to commit to: open it with a group")
        for partition in positions:
            self._check_assigned(partition)
        self._group.commit(positions)

    def committed(self) -> dict[int, Position]:
        if self._group is None:
            return {}
        return {
            partition: position for partition, position in self._group.committed().items() if partition in self._next
        }

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._reader.close()
            if self._group:
                self._group.leave()

    def _check_assigned(self, partition: int) -> int:
        if partition not in self._next:
            raise ValueError(f"partition {partition} is not assigned to this source; assigned: {sorted(self._next)}")
        return partition
