"""Continuous reader of a Kafka topic, alone or as a member of a group."""

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
_SKIP_INTERVAL_S = 0.5  # without a record, after which a source looks for offsets without records
_EMPTY_ASSIGNMENT_TIMEOUT = 1.0  # the same after an empty assignment, normal with more members than partitions


@dataclass(frozen=True, slots=True)
class Subscription:
    """Topic, group and partitions of a source."""

    topic: str
    group: str | None
    partitions: Sequence[int] | None  # None: assigned by the group, or all without a group


class KafkaSource:
    """`Source` of a Kafka topic.

    Assignment is cooperative: partitions that stay are read while others move. The client sends heartbeats by itself,
    but changes of the assignment take effect in `next_batch` only. So a commit between two calls is for assigned
    partitions, or it fails with `OwnershipLost`.
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
        self._last_records_at = time.monotonic()
        self.closed = False
        self._consumer = self._open_consumer()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _open_consumer(self) -> Consumer:
        topic, group = self._subscription.topic, self._subscription.group
        group_name = None if group is None else self._admin.group_name(topic, group)
        instance_id = self._settings.instance_id or None if self._is_shared else None
        return load_client(self._settings).open_consumer(self._settings, self._topic_name, group_name, instance_id)

    @property
    def _is_shared(self) -> bool:
        """Return True if a group assigns the partitions of this source."""
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
        self._admin.check_unchanged()
        deadline = time.monotonic() + timeout
        while True:
            batch = self._poll(limit, max(0.0, deadline - time.monotonic()))
            if batch:
                self._last_records_at = time.monotonic()
            elif time.monotonic() - self._last_records_at > _SKIP_INTERVAL_S:
                self._last_records_at = time.monotonic()
                self._skip_gaps()
            if batch or time.monotonic() >= deadline:
                return batch

    def _poll(self, limit: int, timeout: float) -> list[Records]:
        with self._translate_fencing():
            polled = self._consumer.poll(limit, timeout)
        new_partitions = self._update_assignment() if self._is_shared else frozenset()
        # The client can start a new partition at any offset; read it again from its committed position.
        batch = [
            records for records in polled if records.partition in self._next and records.partition not in new_partitions
        ]
        # The same holds for a partition that was revoked and assigned again within one poll.
        misplaced = {records.partition for records in batch if records.offsets[0] < self._next[records.partition]}
        for partition in misplaced:
            self._consumer.seek(partition, self._next[partition])
        batch = [records for records in batch if records.partition not in misplaced]
        for records in batch:
            self._next[records.partition] = records.offsets[-1] + 1
        return batch

    def _skip_gaps(self) -> None:
        """Move on to the end of each partition that has only ends and records of transactions left.

        These take offsets, but no client returns them; without this, the lag would never reach 0.
        """
        ends = self._reader.end_offsets(self._topic_name, sorted(self._next)) if self._next else {}
        for partition, offset in list(self._next.items()):
            end = ends[partition]
            if offset < end and not len(self._reader.read(self._topic_name, partition, offset, 1)):
                self._next[partition] = end
                if partition in self._consumer.assignment():
                    self._consumer.seek(partition, end)

    def _update_assignment(self) -> frozenset[int]:
        """Apply changes of the assignment; returns the new partitions."""
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
        """Seek to the committed positions.

        ValueError if the group is ahead of its topic, because it would skip the next records.
        """
        topic, group, ordered = self._subscription.topic, self._subscription.group, sorted(partitions)
        start_offsets = self._reader.start_offsets(self._topic_name, ordered)
        end_offsets = self._reader.end_offsets(self._topic_name, ordered)
        committed = {} if group is None else self._admin.committed(topic, group)
        for partition in ordered:
            offset = committed[partition].offset if partition in committed else start_offsets[partition]
            if offset > end_offsets[partition]:
                raise ValueError(
                    f"group {group!r} has read topic {topic!r}, partition {partition}, up to offset {offset}, but it "
                    f"ends at {end_offsets[partition]}: restore the topic, or reset the group "
                    "(kafka-consumer-groups.sh --reset-offsets --to-earliest)"
                )
            self._next[partition] = offset
            self._consumer.seek(partition, offset)

    def snapshot(self) -> dict[int, int]:
        return dict(self._next)

    def seek(self, partition: int, offset: int) -> None:
        if offset < 0:
            raise ValueError(f"offset must be at least 0, got {offset}")
        self._next[self._check_assigned(partition)] = offset
        if partition in self._consumer.assignment():  # else it was just revoked; `next_batch` handles that
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
        """Name the last committers when this source is fenced; raise the same error from then on."""
        if self._fenced:
            raise self._fenced
        try:
            yield
        except Fenced as error:
            topic, group = self._subscription.topic, str(self._subscription.group)
            committers = {position.metadata for position in self._admin.committed(topic, group).values()} - {""}
            message = (
                f"another process uses member={self._settings.instance_id} in group {group!r}; the last commits are "
                f"from ({', '.join(sorted(committers)) or 'unknown'}): stop it, or set another member= in the "
                "HEADRACE_LOG__URL of this process"
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
            raise ValueError(f"partition {partition} is not assigned to this source; assigned: {sorted(self._next)}")
        return partition
