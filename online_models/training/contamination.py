"""What bad events led to: the versions they taught, the slates those versions showed, what people did with them."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from online_models.training import journal
from online_models.training.journal import Read, Rollback
from online_models.training.offset_ranges import Ranges, left_out
from online_models.versions.checkpoints import name_of
from stream.ids import key_of
from stream.logs import EventLog
from stream.records.batches import ExampleBatch, Kind
from stream.records.example_blocks import decode_examples
from stream.topics import EXAMPLES

_READ = 256


def taught_by(log: EventLog, folder: Path, bad: Ranges) -> list[str]:
    """Every version, of a step or a checkpoint, whose state has learnt from bad events; oldest first."""
    taught: dict[str, None] = {}
    skip, slates = Ranges(), Ranges()
    tainted = False
    for entry in journal.entries(folder / "journal"):
        if isinstance(entry, Rollback):
            skip, slates, tainted = entry.skip, entry.slates, entry.version in taught
            continue
        # The state stays what it has learnt until it goes back.
        tainted = tainted or any(_teaches(log, read, bad, (skip, slates)) for read in entry.reads)
        if tainted:
            taught[name_of(entry.epoch, entry.step)] = None
    return list(taught)


def ripple(log: EventLog, folder: Path, bad: Ranges) -> Ranges:
    """The bad ranges with all that they led to: slates of versions that they taught, and the actions on those."""
    versions = np.array([key_of(version) for version in taught_by(log, folder, bad)], np.uint64)
    if not versions.size:
        return bad
    widened = {}
    for partition in range(log.partitions(EXAMPLES)):
        offsets = sorted(_led_to(log, partition, versions))
        if ranges := [*bad.get(str(partition), ()), *_runs(offsets)]:
            widened[str(partition)] = sorted(ranges)
    return widened


def _teaches(log: EventLog, read: Read, bad: Ranges, out: tuple[Ranges, Ranges]) -> bool:
    wrong = bad.get(str(read.partition))
    if not wrong:
        return False
    skip, slates = (ranges.get(str(read.partition)) for ranges in out)
    for batch in _blocks(log, read.partition, read.first, read.next):
        hit = left_out(batch, wrong, None) & ~left_out(batch, skip, slates) & (batch.kind != Kind.held)
        if hit.any():
            return True
    return False


def _led_to(log: EventLog, partition: int, versions: np.ndarray) -> set[int]:
    """Offsets of the slates that some versions made, and of the actions on them."""
    led: set[int] = set()
    slates = np.zeros(0, np.uint64)
    for batch in _blocks(log, partition, log.start(EXAMPLES, partition), log.end(EXAMPLES, partition)):
        shown = (batch.kind == Kind.shown) & np.isin(batch.version, versions)
        slates = np.union1d(slates, batch.impression[shown])
        acted = (batch.kind == Kind.action) & np.isin(batch.impression, slates)
        led.update(batch.offset[shown | acted].tolist())
    return led


def _blocks(log: EventLog, partition: int, first: int, next_: int) -> Iterator[ExampleBatch]:
    while first < next_ and len(records := log.read(EXAMPLES, partition, first, min(_READ, next_ - first))):
        yield from (decode_examples(value)[1] for value in records.values if value)
        first = records.offsets[-1] + 1


def _runs(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Offsets as ranges.

    >>> list(_runs([3, 4, 7]))
    [(3, 5), (7, 8)]
    """
    if not offsets:
        return
    ends = [i for i in range(1, len(offsets)) if offsets[i] != offsets[i - 1] + 1]
    for begin, end in zip(chain([0], ends), chain(ends, [len(offsets)]), strict=True):
        yield offsets[begin], offsets[end - 1] + 1
