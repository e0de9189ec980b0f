"""Reads a topic of Kafka on and on: alone, or as a member of a group that shares out its partitions."""

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from stream.kafka.admin import KafkaTopics
from stream.kafka.clients import Member
from stream.kafka.libraries import client_of
from stream.kafka.reader import KafkaReader
from stream.kafka.url import Brokers
from stream.logs import Fenced, Position, Records, Revoked

_JOINING = 15.0  # seconds that a new member waits for its first partitions
_EMPTY = 1.0  # the same in a group that has settled: with more members than partitions, nothing is a proper share


@dataclass(frozen=True, slots=True)
class Place:
    """What a source reads: a topic, and the group that it reads for."""

    topic: str
    group: str | None
    partitions: Sequence[int] | None  # None: what the group gives it, or all where there is no group


class KafkaSource:
    """See `Source`. Partitions are shared out cooperatively: those that stay are read on while others move.

    The client keeps the membership alive by itself; what the group says of partitions is acted upon in `next_batch`
    alone. So between two calls a commit is for partitions held, or it is refused with `Overtaken`.
    """

    def __init__(
        self, brokers: Brokers, topics: KafkaTopics, reader: KafkaReader, place: Place, revoked: Revoked | None
    ) -> None:
        self._brokers = brokers
        self._topics = topics
        self._reader = reader
        self._place = place
        self._revoked = revoked
        self._name = topics.name(place.topic)
        self._next: dict[int, int] = {}
        self._fenced: Fenced | None = None
        self.closed = False
        self._member = self._open()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _open(self) -> Member:
        group = None if self._place.group is None else self._topics.group(self._place.topic, self._place.group)
        instance = self._brokers.member or None if self._is_shared else None
        return client_of(self._brokers).open_member(self._brokers, self._name, group, instance)

    @property
    def _is_shared(self) -> bool:
        """Whether a group gives and takes this source's partitions."""
        return self._place.group is not None and self._place.partitions is None

    def _start(self) -> None:
        if not self._is_shared:
            held = self._place.partitions
            held = range(self._topics.partitions(self._place.topic)) if held is None else held
            self._member.take(held)
            self._gain(frozenset(held))
            return
        self._member.join()
        deadline = settled = time.monotonic() + _JOINING
        while not self._next and time.monotonic() < min(deadline, settled + _EMPTY):
            self._poll(1, 0.05)
            if not self._member.is_settled():
                settled = time.monotonic()

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        deadline = time.monotonic() + timeout
        while True:
            batch = self._poll(limit, max(0.0, deadline - time.monotonic()))
            if batch or time.monotonic() >= deadline:
                return batch

    def _poll(self, limit: int, timeout: float) -> list[Records]:
        with self._named():
            found = self._member.poll(limit, timeout)
        fresh = self._follow() if self._is_shared else frozenset()
        # A partition that has just come is read from its committed position, wherever the client began.
        batch = [records for records in found if records.partition in self._next and records.partition not in fresh]
        # One that went and came back within a poll begins anywhere, too.
        strayed = {records.partition for records in batch if records.offsets[0] < self._next[records.partition]}
        for partition in strayed:
            self._member.seek(partition, self._next[partition])
        batch = [records for records in batch if records.partition not in strayed]
        for records in batch:
            self._next[records.partition] = records.offsets[-1] + 1
        return batch

    def _follow(self) -> frozenset[int]:
        """Take note of the partitions that went and came; the latter."""
        held = self._member.held()
        lost, fresh = frozenset(self._next) - held, held - frozenset(self._next)
        if lost and self._revoked:
            self._revoked(lost)
        for partition in lost:
            del self._next[partition]
        if fresh:
            self._gain(fresh)
        return fresh

    def _gain(self, partitions: frozenset[int]) -> None:
        """Begin at the committed positions; a group that is ahead of its topic would skip what is appended next."""
        some = sorted(partitions)
        starts, ends = self._reader.starts(self._name, some), self._reader.ends(self._name, some)
        committed = {} if self._place.group is None else self._topics.committed(self._place.topic, self._place.group)
        for partition in some:
            at = committed[partition].offset if partition in committed else starts[partition]
            if at > ends[partition]:
                raise ValueError(
                    f"group {self._place.group!r} has read topic {self._place.topic!r}, partition {partition}, up to "
                    f"offset {at}, but it ends at {ends[partition]}: restore the topic, or have the group start over "
                    f"(kafka-consumer-groups.sh --reset-offsets --to-earliest)"
                )
            self._next[partition] = at
            self._member.seek(partition, at)

    def snapshot(self) -> dict[int, int]:
        return dict(self._next)

    def seek(self, partition: int, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, got {offset}")
        self._next[self._held(partition)] = offset
        if partition in self._member.held():  # else it went a moment ago, as the next batch will tell
            self._member.seek(partition, offset)

    def commit(self, positions: Mapping[int, Position]) -> None:
        if self._place.group is None:
            raise ValueError("a source without a group has nothing to commit to: open it with a group")
        for partition in positions:
            self._held(partition)
        if positions:
            with self._named():
                self._member.commit(positions)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Tell who goes by this one's name, as far as what the group has committed says so; from then on, at once."""
        if self._fenced:
            raise self._fenced
        try:
            yield
        except Fenced as error:
            notes = {at.note for at in self._topics.committed(self._place.topic, str(self._place.group)).values()}
            told = (
                f"another process goes by member={self._brokers.member} in group {self._place.group!r}; last to commit "
                f"there: ({', '.join(sorted(notes - {''})) or 'nobody'}). Stop it, or give this one another member= in "
                f"its HEADRACE_LOG__URL"
            )
            self._fenced = Fenced(errno.ESTALE, told, str(self._brokers))
            raise self._fenced from error

    def committed(self) -> dict[int, Position]:
        if self._place.group is None:
            return {}
        found = self._topics.committed(self._place.topic, self._place.group)
        return {partition: at for partition, at in found.items() if partition in self._next}

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._member.close()

    def _held(self, partition: int) -> int:
        if partition not in self._next:
            raise ValueError(f"partition {partition} is not held here; held are {sorted(self._next)}")
        return partition
