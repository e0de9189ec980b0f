"""Logs and stores that crash around a write, or are unreachable."""

from collections.abc import Mapping, Sequence

import numpy as np

from stream.logs import Position, Record
from stream.stores import StoreWatermark
from stream.testing import Crashed, ManualClock, MemoryLog, MemoryStore


class CrashInjector:
    """Count the moments at which a process can die; raise `Crashed` after each interval."""

    def __init__(self, *intervals: int) -> None:
        self.remaining = list(intervals)
        self.ticks = 0

    def tick(self) -> None:
        self.ticks += 1
        if self.remaining:
            self.remaining[0] -= 1
            if self.remaining[0] < 0:
                self.remaining.pop(0)
                raise Crashed(f"at moment {self.ticks}")


class CrashingLog(MemoryLog):
    """Log that can crash before, in the middle of and after each append and commit."""

    def __init__(self, injector: CrashInjector, now_ms: int) -> None:
        super().__init__(clock=ManualClock(now_ms))
        self.injector = injector

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        self.injector.tick()
        halves = {partition: len(records) // 2 for partition, records in batches.items()}
        first_offsets = super().append_many(topic, {p: records[: halves[p]] for p, records in batches.items()})
        if any(halves.values()):
            self.injector.tick()
        super().append_many(topic, {p: records[halves[p] :] for p, records in batches.items()})
        self.injector.tick()
        return first_offsets

    def commit(self, topic: str, group: str, positions: Mapping[int, Position]) -> None:
        self.injector.tick()
        super().commit(topic, group, positions)
        self.injector.tick()

    def write(self, topic: str, partition: int, *records: Record) -> None:
        """Append as another process, which does not crash."""
        super().append_many(topic, {partition: records})


class CrashingStore(MemoryStore):
    """Store that can crash before and after each write."""

    def __init__(self, injector: CrashInjector) -> None:
        super().__init__()
        self.injector = injector

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        self.injector.tick()
        super().put_many(keys, values, watermarks)
        self.injector.tick()


class UnreachableStore(MemoryStore):
    """Store whose reads fail with `error` while `is_reachable` is False."""

    def __init__(self, error: Exception | None = None, is_reachable: bool = False) -> None:
        super().__init__()
        self.error = error or ConnectionError("no route to the store at 10.0.0.7")
        self.is_reachable = is_reachable

    def get(self, key: int) -> bytes | None:
        self._check()
        return super().get(key)

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        self._check()
        return super().get_many(keys)

    def watermark(self, partition: int) -> str:
        self._check()
        return super().watermark(partition)

    def _check(self) -> None:
        if not self.is_reachable:
            raise self.error
