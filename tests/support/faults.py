"""A log and a store whose process dies at a chosen effect: before it, in the middle of it, or just after it."""

from collections.abc import Mapping, Sequence

import numpy as np

from stream.logs import Position, Record
from stream.stores import Mark
from stream.testing import Crashed, ManualClock, MemoryLog, MemoryStore


class Fuse:
    """Burns a step at each moment at which a process may die; at the end of each length given it raises `Crashed`."""

    def __init__(self, *lengths: int) -> None:
        self.left = list(lengths)
        self.burnt = 0

    def burn(self) -> None:
        self.burnt += 1
        if self.left:
            self.left[0] -= 1
            if self.left[0] < 0:
                self.left.pop(0)
                raise Crashed(f"at moment {self.burnt}")


class BrittleLog(MemoryLog):
    """Loses a part of a batch of records, as a broker may, when the process dies in the middle of an append."""

    def __init__(self, fuse: Fuse, now_ms: int) -> None:
        super().__init__(clock=ManualClock(now_ms))
        self.fuse = fuse

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        self.fuse.burn()
        halves = {partition: len(records) // 2 for partition, records in batches.items()}
        firsts = super().append_many(topic, {p: records[: halves[p]] for p, records in batches.items()})
        if any(halves.values()):
            self.fuse.burn()
        super().append_many(topic, {p: records[halves[p] :] for p, records in batches.items()})
        self.fuse.burn()
        return firsts

    def commit(self, topic: str, group: str, positions: Mapping[int, Position]) -> None:
        self.fuse.burn()
        super().commit(topic, group, positions)
        self.fuse.burn()

    def write(self, topic: str, partition: int, *records: Record) -> None:
        """What another process appends: it does not die."""
        super().append_many(topic, {partition: records})


class BrittleStore(MemoryStore):
    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self.fuse = fuse

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        self.fuse.burn()
        super().put_many(keys, values, marks)
        self.fuse.burn()
