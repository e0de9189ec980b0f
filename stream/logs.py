"""The event log as a protocol: topics of ordered partitions that outlive the processes writing and reading them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Record = tuple[bytes | None, bytes | None]  # key, value; value None = tombstone
RevokeCallback = Callable[[frozenset[int]], None]

TOMBSTONE_AGE_MS = 24 * 3600 * 1000  # how long a reader may lag and still hear that a key has gone
_NAME_PATTERN = re.compile(
    r"[A-Za-z0-9._-]{1,100}"
)  # what Kafka allows; two names and a suffix still fit into a file name


@dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of one partition, as columns of equal length."""

    partition: int
    offsets: Sequence[int]  # ascending; gaps where records were compacted away
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]  # None = tombstone
    times: Sequence[int]  # append time, ms; never falls within a partition

    def __len__(self) -> int:
        return len(self.offsets)


@dataclass(frozen=True, slots=True)
class Position:
    """How far a group has read: the offset of the next record, with a short note that is kept beside it."""

    offset: int
    metadata: str = ""

    def __post_init__(self) -> None:
        if "\0" in self.metadata:  # where clients of Kafka end a text
            raise ValueError(f"a note must be text without NUL, got {self.metadata!r}")


class OwnershipLost(OSError):
    """Others have taken over what this process held: what it was about to write or commit must come from them."""


class Fenced(OSError):
    """Another process goes by this one's name in the group: to go on would be to take it away again, and so on."""


class Source(Protocol):
    """One reader of one topic; for one thread at a time.

    A source of a group starts at the committed positions, any other partition starts at the oldest record. With a
    broker that shares partitions out, they come and go inside `next_batch` only: `snapshot` has exactly the ones held
    now, each at its committed position when it is new, and `revoked` is called before some go, while `commit` still
    works for them. What `next_batch` returns belongs to partitions held.
    """

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        """At most `limit` records, at most one entry per partition; waits up to `timeout` seconds for the first one."""
        ...

    def snapshot(self) -> dict[int, int]:
        """Offset of the next read, by partition held."""
        ...

    def seek(self, partition: int, offset: int) -> None: ...

    def commit(self, positions: Mapping[int, Position]) -> None:
        """Make positions durable, all or none.

        ValueError for a source without a group; `Overtaken` if others hold these partitions by now, `Fenced` if it
        is one that goes by the same name.
        """
        ...

    def committed(self) -> dict[int, Position]:
        """What the group has committed for the partitions held; a partition never committed is missing."""
        ...

    def close(self) -> None: ...


class EventLog(Protocol):
    """Topics of partitions of records; may be used from several threads, and by several processes at once."""

    def create(self, topic: str, partitions: int, compacted: bool = False, durable: bool = True) -> None:
        """Make the topic unless it is there; ValueError if it is there with another number of partitions.

        `compacted`: only the newest record of a key matters. `durable=False`: the last appends may be lost in a power
        cut (never by a killed process); for what can be derived again.
        """
        ...

    def partitions(self, topic: str) -> int: ...

    def append(self, topic: str, partition: int, records: Sequence[Record]) -> int:
        """Append and return the first offset; the records are durable when this returns."""
        ...

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        """Append to several partitions in one durable commit; the first offset by partition."""
        ...

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records:
        """Up to `limit` records from the first one at or after `offset`; none when there are none."""
        ...

    def start_offset(self, topic: str, partition: int) -> int:
        """Offset from which records are kept."""
        ...

    def end_offset(self, topic: str, partition: int) -> int:
        """Offset that the next append gets."""
        ...

    def end_offsets(self, topic: str) -> dict[int, int]:
        """`end` of each partition, at one look."""
        ...

    def offset_for_time(self, topic: str, partition: int, ts: int) -> int:
        """Offset of the first record appended at or after `ts`; the end if there is none."""
        ...

    def open_source(
        self,
        topic: str,
        group: str | None,
        partitions: Sequence[int] | None = None,
        on_revoke: RevokeCallback | None = None,
    ) -> Source:
        """Read a topic, all partitions by default; without a group, a plain reader that commits nothing."""
        ...

    def committed(self, topic: str, group: str) -> dict[int, Position]:
        """What a group has committed, without joining it: `end` minus this is its lag."""
        ...

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Forget the records below an offset."""
        ...

    def trim_older(self, topic: str, ts: int) -> None:
        """Forget the records appended before `ts`, in all partitions."""
        ...

    def compact(self, topic: str, before: int) -> None:
        """Forget records of a compacted topic, appended before `before`, ms, that a newer one of the same key replaces.

        What is newer stays, replaced or not: a stretch of the log that is replayed asks for items as they were then.
        """
        ...

    def close(self) -> None: ...


def validate_name(kind: str, name: str) -> str:
    """A topic's or group's name, if every driver can carry it."""
    if not _NAME_PATTERN.fullmatch(name) or name in (".", ".."):
        raise ValueError(f"{kind} must be 1 to 100 of A-Z a-z 0-9 . _ -, got {name!r}")
    return name
