"""Reads a topic of Kafka on and on: alone, or as a member of a group that shares out its partitions."""

import errno
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from stream.kafka.admin import KafkaAdmin
from stream.kafka.clients import Consumer
from stream.kafka.libraries import load_client
from stream.kafka.reader import KafkaReader
from stream.kafka.url import KafkaSettings
from stream.logs import Fenced, Position, Records, RevokeCallback

_JOIN_TIMEOUT = 15.0  # seconds that a new member waits for its first partitions
_EMPTY_ASSIGNMENT_TIMEOUT = (
    1.0  # the same in a group that has settled: with more members than partitions, nothing is a proper share
)


@dataclass(frozen=True, slots=True)
class Subscription:
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
        self,
        settings: KafkaSettings,
        admin: KafkaAdmin,
        reader: KafkaReader,
        subscription: Subscription,
        on_revoke: RevokeCallback | None,
    ) -> None:
        self._settings = settings
        self._admin = admin
        self._reader = reader
        self._subscription = subscription
        self._on_revoke = on_revoke
        self._topic_name = admin.topic_name(subscription.topic)
        self._next: dict[int, int] = {}
        self._fenced: Fenced | None = None
        self.closed = False
        self._consumer = self._open_consumer()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _open_consumer(self) -> Consumer:
        group = (
            None
            if self._subscription.group is None
            else self._admin.group_name(self._subscription.topic, self._subscription.group)
        )
        instance_id = self._settings.instance_id or None if self._is_shared else None
        return load_client(self._settings).open_consumer(self._settings, self._topic_name, group, instance_id)

    @property
    def _is_shared(self) -> bool:
        """Whether a group gives and takes this source's partitions."""
        return self._subscription.group is not None and self._subscription.partitions is None

    def _start(self) -> None:
        if not self._is_shared:
            partitions = self._subscription.partitions
            partitions = range(self._admin.partitions(self._subscription.topic)) if partitions is None else partitions
            self._consumer.assign(partitions)
            self._add_partitions(frozenset(partitions))
            return
        self._consumer.join()
        deadline = assigned_at = time.monotonic() + _JOIN_TIMEOUT
        while not self._next and time.monotonic() < min(deadline, assigned_at + _EMPTY_ASSIGNMENT_TIMEOUT):
            self._poll(1, 0.05)
            if not self._consumer.has_assignment():
                assigned_at = time.monotonic()

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        deadline = time.monotonic() + timeout
        while True:
            batch = self._poll(limit, max(0.0, deadline - time.monotonic()))
            if batch or time.monotonic() >= deadline:
                return batch

    def _poll(self, limit: int, timeout: float) -> list[Records]:
        with self._translate_fencing():
            polled = self._consumer.poll(limit, timeout)
        new_partitions = self._update_assignment() if self._is_shared else frozenset()
        # A partition that has just come is read from its committed position, wherever the client began.
        batch = [
            records for records in polled if records.partition in self._next and records.partition not in new_partitions
        ]
        # One that went and came back within a poll begins anywhere, too.
        misplaced = {records.partition for records in batch if records.offsets[0] < self._next[records.partition]}
        for partition in misplaced:
            self._consumer.seek(partition, self._next[partition])
        batch = [records for records in batch if records.partition not in misplaced]
        for records in batch:
            self._next[records.partition] = records.offsets[-1] + 1
        return batch

    def _update_assignment(self) -> frozenset[int]:
        """Take note of the partitions that went and came; the latter."""
        assignment = self._consumer.assignment()
        lost, new_partitions = frozenset(self._next) - assignment, assignment - frozenset(self._next)
        if lost and self._on_revoke:
            self._on_revoke(lost)
        for partition in lost:
            del self._next[partition]
        if new_partitions:
            self._add_partitions(new_partitions)
        return new_partitions

    def _add_partitions(self, partitions: frozenset[int]) -> None:
        """Begin at the committed positions; a group that is ahead of its topic would skip what is appended next."""
        ordered = sorted(partitions)
        start_offsets, end_offsets = (
            self._reader.start_offsets(self._topic_name, ordered),
            self._reader.end_offsets(self._topic_name, ordered),
        )
        committed = (
            {}
            if self._subscription.group is None
            else self._admin.committed(self._subscription.topic, self._subscription.group)
        )
        for partition in ordered:
            offset = committed[partition].offset if partition in committed else start_offsets[partition]
            if offset > end_offsets[partition]:
                raise ValueError(
                    f"group {self._subscription.group!r} has read topic {self._subscription.topic!r}, partition {partition}, up to "
                    f"offset {offset}, but it ends at {end_offsets[partition]}: restore the topic, or have the group start over "
                    f"(kafka-consumer-groups.sh --reset-offsets --to-earliest)"
                )
            self._next[partition] = offset
            self._consumer.seek(partition, offset)

    def snapshot(self) -> dict[int, int]:
        return dict(self._next)

    def seek(self, partition: int, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, got {offset}")
        self._next[self._check_assigned(partition)] = offset
        if partition in self._consumer.assignment():  # else it went a moment ago, as the next batch will tell
            self._consumer.seek(partition, offset)

    def commit(self, positions: Mapping[int, Position]) -> None:
        if self._subscription.group is None:
            raise ValueError("a source without a group has nothing to commit to: open it with a group")
        for partition in positions:
            self._check_assigned(partition)
        if positions:
            with self._translate_fencing():
                self._consumer.commit(positions)

    @contextmanager
    def _translate_fencing(self) -> Iterator[None]:
        """Tell who goes by this one's name, as far as what the group has committed says so; from then on, at once."""
        if self._fenced:
            raise self._fenced
        try:
            yield
        except Fenced as error:
            committers = {
                position.metadata
                for position in self._admin.committed(self._subscription.topic, str(self._subscription.group)).values()
            }
            message = (
                f"another process goes by member={self._settings.instance_id} in group {self._subscription.group!r}; last to commit "
                f"there: ({', '.join(sorted(committers - {''})) or 'nobody'}). Stop it, or give this one another member= in "
                f"its HEADRACE_LOG__URL"
            )
            self._fenced = Fenced(errno.ESTALE, message, str(self._settings))
            raise self._fenced from error

    def committed(self) -> dict[int, Position]:
        if self._subscription.group is None:
            return {}
        positions = self._admin.committed(self._subscription.topic, self._subscription.group)
        return {partition: position for partition, position in positions.items() if partition in self._next}

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._consumer.close()

    def _check_assigned(self, partition: int) -> int:
        if partition not in self._next:
            raise ValueError(f"partition {partition} is not held here; held are {sorted(self._next)}")
        return partition
