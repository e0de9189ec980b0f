"""Protocol of the event log: durable topics of ordered partitions."""

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from stream.clock import DAY_MS

Record = tuple[bytes | None, bytes | None]  # key, value; value None = tombstone
RevokeCallback = Callable[[frozenset[int]], None]

TOMBSTONE_AGE_MS = DAY_MS  # a reader that lags by less still reads every deletion
# Kafka's characters; the length leaves room in a file name for two names and a suffix.
_NAME_PATTERN = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition, as columns of equal length."""

    partition: int
    offsets: Sequence[int]  # ascending; gaps where records were compacted away
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]  # None = tombstone
    times: Sequence[int]  # append time, ms; falls only when a clock that was ahead is corrected

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, start: int, end: int) -> "Records":
        """Select consecutive records by index."""
        columns = self.offsets[start:end], self.keys[start:end], self.values[start:end], self.times[start:end]
        return Records(self.partition, *columns)

    def before(self, offset: int) -> "Records":
        """Select the records below an offset."""
        n = bisect_left(self.offsets, offset)
        return self if n == len(self) else self.part(0, n)


@dataclass(frozen=True, slots=True)
class Position:
    """Committed position of a group: the offset of the next record, and a short note."""

    offset: int
    metadata: str = ""

    def __post_init__(self) -> None:
        if "\0" in self.metadata:  # Kafka clients end a text at NUL
            raise ValueError(f"position metadata must be text without NUL, got {self.metadata!r}")


class TopicProblem(NamedTuple):
    """Setting of a topic with which data is lost or wrong, and its fix."""

    topic: str
    problem: str
    fix: str


class OwnershipLost(OSError):
    """Another process owns the partition now; this one must not write or commit for it."""


class TopicChanged(ValueError):
    """A topic was deleted, replaced, or has another number of partitions.

    Positions in it, and the partitions of users, mean nothing any more.
    """


class Fenced(OSError):
    """Another process has joined the group under this one's name.

    Joining again would fence that process in turn.
    """


class Source(Protocol):
    """Reader of one topic; for one thread at a time.

    A source of a group starts at the committed positions; a partition without one starts at its oldest record. A
    broker that assigns partitions changes the assignment inside `next_batch` only. `snapshot` has exactly the
    assigned partitions, and a new one starts at its committed position. `on_revoke` is called before partitions go,
    while `commit` still works for them. `next_batch` returns records of assigned partitions only.
    """

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        """Read up to `limit` records, one entry per partition.

        It waits up to `timeout` seconds for the first record.
        """
        ...

    def snapshot(self) -> dict[int, int]:
        """Offset of the next read, by assigned partition."""
        ...

    def seek(self, partition: int, offset: int) -> None: ...

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Make positions durable, all or none.

        ValueError for a source without a group; `OwnershipLost` if another member has these partitions now; `Fenced`
        if that member has the same name.
        """
        ...

    def committed(self) -> dict[int, Position]:
        """Committed positions of the assigned partitions; a partition without one is missing."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """Log of topics with ordered partitions; safe for several threads and several processes."""

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        """Create the topic unless it exists.

        ValueError if it exists with another number of partitions. `compacted`: only the newest record of a key matters.
        `durable=False`: a power failure can lose the last appends, a killed process cannot; for data that can be
        derived again.
        """
        ...

    def partitions(self, topic: str) -> int: ...

    def topic_id(self, topic: str) -> str:
        """Id that a topic gets when it is created.

        It is empty if there is no such topic, or for a Kafka broker before version 2.8, which has none.
        """
        ...

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Append records and return the first offset; the records are durable on return."""
        ...

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        """Append to several partitions in one durable commit; returns the first offset by partition."""
        ...

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        """Read up to `limit` records at or after `offset`; empty at the end of the partition."""
        ...

    def start_offset(self, topic: str, partition: int) -> int:
        """Offset of the oldest record that retention keeps."""
        ...

    def end_offset(self, topic: str, partition: int) -> int:
        """Offset of the next append."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """End offset of each partition, read at one moment."""
        ...

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        """Offset of the first record appended at or after `ts`, ms; the end offset if there is none."""
        ...

    def open_source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        on_revoke: RevokeCallback | None = None,
    ) -> Source:
        """Open a reader of a topic, by default of all partitions; without a group it cannot commit."""
        ...

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        """Committed positions of a group, without joining it; the end offset minus this is the lag."""
        ...

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Delete the records below an offset."""
        ...

    def trim_older(self, topic: str, ts: int) -> None:
        """Delete the records appended before `ts`, ms, in all partitions."""
        ...

    def compact(self, topic: str, before: int) -> None:
        """Delete records of a compacted topic that a newer record of the same key replaces.

        It deletes only records appended before `before`, ms. Newer records stay even when replaced, because a replay of
        a part of the log needs the items of that time.
        """
        ...

    def topic_problems(self, retention: float = 0.0) -> list[TopicProblem]:
        """Problems with the settings of the topics that were created through this object.

        `retention`: seconds for which records must stay; 0 accepts any limit of the broker.
        """
        ...

    def close(self) -> None: ...


class TopicIdentity(NamedTuple):
    """Facts about a topic that never change; another id means another topic with the same name."""

    id: str
    partitions: int


def describe_change(topic: str, was: TopicIdentity, now: TopicIdentity | None) -> str:
    """Sentence about a topic that has changed, with the way out; `now`: None for a deleted one."""
    fix = "see the section Partitions of docs/kafka.md" if now else "see the section Replaced topics of docs/kafka.md"
    if now is None:
        return f"topic {topic!r} was deleted: restore it, or start over with another HEADRACE_LOG__PREFIX; {fix}"
    if now.partitions != was.partitions:
        return (
            f"topic {topic!r} was created with {was.partitions} partitions and has {now.partitions} now, so that the "
            "events of a user are in two partitions: copy the log to another HEADRACE_LOG__PREFIX with "
            f"HEADRACE_LOG__PARTITIONS={now.partitions}; {fix}"
        )
    return (
        f"topic {topic!r} was deleted and created again, or the log is another one (id {now.id[:8]}, expected "
        f"{was.id[:8]}), so that stored offsets mean other records: restore the topic, or start over with another "
        "HEADRACE_LOG__PREFIX, HEADRACE_STORE__PREFIX and HEADRACE_DATA__FOLDER; see the section Replaced topics of "
        "docs/kafka.md"
    )


def validate_name(kind: str, name: str) -> str:
    """Return the name of a topic or a group; ValueError unless every driver supports it."""
    if not _NAME_PATTERN.fullmatch(name) or name in (".", ".."):
        raise ValueError(f"{kind} must be 1 to 100 characters of A-Z a-z 0-9 . _ -, got {name!r}")
    return name
