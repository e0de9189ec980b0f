"""A log and a store whose process dies at a chosen effect: before it, in the middle of it, or just after it."""

from collections.abc import Mapping, Sequence

import numpy as np

from stream.logs import Position, Record
from stream.stores import StoreWatermark
from stream.testing import Crashed, ManualClock, MemoryLog, MemoryStore


class CrashInjector:
    """Burns a step at each moment at which a process may die; at the end of each length given it raises `Crashed`."""

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
    """Loses a part of a batch of records, as a broker may, when the process dies in the middle of an append."""

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
        """What another process appends: it does not die."""
        super().append_many(topic, {partition: records})


class CrashingStore(MemoryStore):
    def __init__(self, injector: CrashInjector) -> None:
        super().__init__()
        self.injector = injector

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        self.injector.tick()
        super().put_many(keys, values, watermarks)
        self.injector.tick()
