"""Reader of the event log in memory; it raises `Crashed` where the topic has a crash."""

import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from stream.logs import Position, Records, RevokeCallback


class Crashed(RuntimeError):
    """Simulated death of the process; the source is closed and has left its group."""


class LogView(Protocol):
    """Methods of the log that a source uses."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> Records: ...
    def start_offset(self, topic: str, partition: int) -> int: ...
    def committed(self, topic: str, group: str) -> dict[int, Position]: ...
    def commit(self, topic: str, group: str, positions: Mapping[int, Position]) -> None: ...
    def leave(self, topic: str, group: str) -> None: ...
    def records_before_crash(self, topic: str, partition: int, offset: int, limit: int) -> int: ...
    def consume_crash(self, topic: str, partition: int, offset: int) -> bool: ...
    def wait(self, timeout: float) -> None: ...


class MemorySource:
    """`Source` of a `MemoryLog`; `assign` simulates a broker that moves partitions."""

    def __init__(
        self, log: LogView, topic: str, group: str | None, partitions: Sequence[int], on_revoke: RevokeCallback | None
    ) -> None:
        self._log = log
        self._topic = topic
        self._group = group
        self._on_revoke = on_revoke
        self._next: dict[int, int] = {}
        self._pending_assignment: frozenset[int] | None = None
        self._add_partitions(frozenset(partitions))

    def assign(self, partitions: Sequence[int]) -> None:
        """Assign exactly these partitions, with effect from the next `next_batch`."""
        self._pending_assignment = frozenset(partitions)

    def next_batch(self, limit: int, timeout: float) -> list[Records]:
        if limit < 1:
            raise ValueError(f"limit must be at least 1, got {limit}")
        if self._pending_assignment is not None:
            self._rebalance(self._pending_assignment)
        deadline = time.monotonic() + timeout
        while True:
            batch = self._read(limit)
            remaining = deadline - time.monotonic()
            if batch or remaining <= 0:
                return batch
            self._log.wait(min(remaining, 0.005))

    def _read(self, limit: int) -> list[Records]:
        batch: list[Records] = []
        for partition, offset in self._next.items():
            count = self._log.records_before_crash(self._topic, partition, offset, limit)
            if count == 0 and limit and not batch:
                self._crash(partition, offset)
            if count == 0:
                continue
            records = self._log.read(self._topic, partition, offset, count)
            if records:
                self._next[partition] = records.offsets[-1] + 1
                limit -= len(records)
                batch.append(records)
        return batch

    def _crash(self, partition: int, offset: int) -> None:
        if self._log.consume_crash(self._topic, partition, offset):
            self.close()
            raise Crashed(f"topic {self._topic!r}, partition {partition}, before offset {offset}")

    def _rebalance(self, partitions: frozenset[int]) -> None:
        lost = frozenset(self._next) - partitions
        if lost and self._on_revoke:
            self._on_revoke(lost)
        for partition in lost:
            del self._next[partition]
        self._add_partitions(partitions - frozenset(self._next))
        self._pending_assignment = None

    def _add_partitions(self, partitions: frozenset[int]) -> None:
        committed = {} if self._group is None else self._log.committed(self._topic, self._group)
        for partition in sorted(partitions):
            start = self._log.start_offset(self._topic, partition)
            self._next[partition] = committed[partition].offset if partition in committed else start

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
        self._log.commit(self._topic, self._group, positions)

    def committed(self) -> dict[int, Position]:
        if self._group is None:
            return {}
        positions = self._log.committed(self._topic, self._group)
        return {partition: position for partition, position in positions.items() if partition in self._next}

    def close(self) -> None:
        if self._group is not None:
            self._log.leave(self._topic, self._group)

    def _check_assigned(self, partition: int) -> int:
        if partition not in self._next:
            raise ValueError(f"partition {partition} is not assigned to this source; assigned: {sorted(self._next)}")
        return partition
