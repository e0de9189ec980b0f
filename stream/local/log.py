"""The embedded event log: a folder of SQLite files, one per topic, that several processes share."""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stream.clock import Clock
from stream.local.sqlite import NotCreated, SqliteFile
from stream.local.topic import LocalTopic, create_topic
from stream.logs import TOMBSTONE_AGE_MS, Position, Record, Records, Revoked, checked_name

_POSITIONS_VERSION = 1
_POSITIONS = (
    'CREATE TABLE positions ("group" TEXT, topic TEXT, partition INTEGER, offset INTEGER NOT NULL, note TEXT NOT NULL,'
    ' PRIMARY KEY ("group", topic, partition)) WITHOUT ROWID',
)
_POLL = (0.001, 0.005)  # seconds between looks at a topic: just after a record, and long after the last one


def open_url(url: str, prefix: str, clock: Clock) -> "LocalLog":
    folder = url.removeprefix("local:")
    if not folder:
        raise ValueError(f"log url must name a folder, as in local:data/log, got {url!r}")
    return LocalLog(Path(folder).expanduser(), prefix, clock)


class LocalLog:
    """See `EventLog`. A group has one reading process per topic at a time; the kernel frees its place if it dies."""

    def __init__(self, folder: Path, prefix: str, clock: Clock) -> None:
        self._folder = folder
        self._prefix = prefix
        self._clock = clock
        self._lock = threading.Lock()
        self._topics: dict[str, LocalTopic] = {}
        self._sources: list[LocalSource] = []
        self._positions = SqliteFile(folder / "positions.db", _POSITIONS, _POSITIONS_VERSION, page_size=4096)

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        create_topic(self._path(topic), partitions, compacted, durable)
        found = self._topic(topic).partitions
        if found != partitions:
            raise ValueError(f"topic {topic!r} in {self._folder} has {found} partitions, asked for {partitions}")

    def partitions(self, topic: str) -> int:
        return self._topic(topic).partitions

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        return self.append_many(topic, {partition: records})[partition]

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        return self._topic(topic).append_many(batches, self._clock.now_ms())

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        found = self._topic(topic)
        return found.read(found.known(partition), offset, limit)

    def start(self, topic: str, partition: int) -> int:
        found = self._topic(topic)
        return found.bounds()[found.known(partition)][0]

    def end(self, topic: str, partition: int) -> int:
        found = self._topic(topic)
        return found.bounds()[found.known(partition)][1]

    def ends(self, topic: str) -> dict[int, int]:
        return {partition: end for partition, (_, end) in self._topic(topic).bounds().items()}

    def find_time(self, topic: str, partition: int, ts: int) -> int:
        found = self._topic(topic)
        return found.find_time(found.known(partition), ts)

    def source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        revoked: Revoked | None = None,
    ) -> "LocalSource":
        found = self._topic(topic)
        held = range(found.partitions) if partitions is None else [found.known(partition) for partition in partitions]
        source = LocalSource(found, held, None if group is None else self._group(topic, group))
        with self._lock:
            self._sources = [*(opened for opened in self._sources if not opened.closed), source]
        return source

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        return _committed(self._positions, self._prefix + group, self._prefix + topic)

    def trim(self, topic: str, partition: int, before: int) -> None:
        found = self._topic(topic)
        found.trim(found.known(partition), before)

    def trim_older(self, topic: str, ts: int) -> None:
        found = self._topic(topic)
        for partition in range(found.partitions):
            found.trim(partition, found.find_time(partition, ts))

    def compact(self, topic: str, before: int) -> None:
        found = self._topic(topic)
        if not found.compacted:
            raise ValueError(f"topic {topic!r} was not created as a compacted one")
        found.compact(before, self._clock.now_ms() - TOMBSTONE_AGE_MS)

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
                except NotCreated:
                    raise ValueError(f"topic {topic!r} is not in {self._folder}: create it first") from None
            return self._topics[topic]

    def _path(self, topic: str) -> Path:
        return self._folder / f"{checked_name('topic', self._prefix + topic)}.topic.db"

    def _group(self, topic: str, group: str) -> "_Group":
        return _Group(self._folder, self._positions, self._prefix + topic, checked_name("group", self._prefix + group))


class _Group:
    """The place of a group at a topic: its positions, and the lock that keeps a second process out."""

    def __init__(self, folder: Path, positions: SqliteFile, topic: str, name: str) -> None:
        self.topic = topic
        self.name = name
        self._positions = positions
        self._lock = os.open(folder / f"{topic}@{name}.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(self._lock, 32).decode() or "unknown"
            os.close(self._lock)
            told = f"group {name!r} already reads topic {topic!r} in process {holder}: stop it, or use another group"
            raise BlockingIOError(errno.EWOULDBLOCK, told, str(folder)) from None
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def committed(self) -> dict[int, Position]:
        return _committed(self._positions, self.name, self.topic)

    def commit(self, positions: Mapping[int, Position]) -> None:
        rows = [(self.name, self.topic, partition, at.offset, at.note) for partition, at in positions.items()]
        with self._positions.writing() as db:
            db.executemany("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?)", rows)

    def check(self, committed: Mapping[int, Position], bounds: Mapping[int, tuple[int, int]]) -> None:
        """A group that has read further than the topic goes would skip what is appended next."""
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


def _committed(positions: SqliteFile, group: str, topic: str) -> dict[int, Position]:
    query = 'SELECT partition, offset, note FROM positions WHERE "group" = ? AND topic = ?'
    rows = positions.reader.rows(query, (group, topic))
    return {partition: Position(offset, note) for partition, offset, note in rows}


class LocalSource:
    """See `Source`. Partitions share a batch evenly, and what one leaves unused goes to those further behind."""

    def __init__(self, topic: LocalTopic, partitions: Sequence[int], group: _Group | None) -> None:
        self._topic = topic
        self._group = group
        self._next = dict.fromkeys(partitions, 0)
        self._fed = time.monotonic()
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
            self._group.check(committed, bounds)
        for partition in self._next:
            self._next[partition] = committed[partition].offset if partition in committed else bounds[partition][0]

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        deadline = time.monotonic() + timeout
        while True:
            change = self._reader.change()  # before the read: what comes after it is another change
            batch = self._read(limit)
            if batch:
                self._fed = time.monotonic()
                return batch
            while self._reader.change() == change:
                now = time.monotonic()
                if now >= deadline:
                    return []
                pause = min(max(_POLL[0], (now - self._fed) / 10), _POLL[1])
                time.sleep(min(pause, deadline - now))

    def _read(self, limit: int) -> list[Records]:
        bounds = self._topic.bounds(self._reader)
        behind = sorted((bounds[partition][1] - at, partition) for partition, at in self._next.items())
        behind = [(lag, partition) for lag, partition in behind if lag > 0]
        batch = []
        for waiting, (_, partition) in zip(range(len(behind), 0, -1), behind, strict=True):
            if limit == 0:
                break
            share = -(-limit // waiting)
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
        self._next[self._held(partition)] = offset

    def commit(self, positions: Mapping[int, Position]) -> None:
        if self._group is None:
            raise ValueError("a source without a group has nothing to commit to: open it with a group")
        for partition in positions:
            self._held(partition)
        self._group.commit(positions)

    def committed(self) -> dict[int, Position]:
        if self._group is None:
            return {}
        return {partition: at for partition, at in self._group.committed().items() if partition in self._next}

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._reader.close()
            if self._group:
                self._group.leave()

    def _held(self, partition: int) -> int:
        if partition not in self._next:
            raise ValueError(f"partition {partition} is not held here; held are {sorted(self._next)}")
        return partition
