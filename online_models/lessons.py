"""How far the learner has come, and the rows of the next step: which examples count, once each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from online_models.catalogued import learn_items
from online_models.journal import Read, Step
from online_models.stack import Stack
from stream.batches import ExampleBatch, Kind, concat
from stream.logs import EventLog, Records
from stream.topics import EXAMPLES, Reach, decode_examples, sound_blocks

Runs = Sequence[tuple[int, int]]  # of offsets, from and to


@dataclass(slots=True)
class Progress:
    """What the state stands for: a version, what taught it, and what was left out."""

    epoch: int = 1
    step: int = 0
    examples: dict[int, int] = field(default_factory=dict)  # next offset of the examples topic, by partition
    offsets: dict[int, int] = field(default_factory=dict)  # next offset of the events, by partition
    skip: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # offsets of events left out
    slates: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # the same of slates and their answers alone
    items: int = 0
    control: int = 0
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """Rows to learn, and the partition of events that each comes from."""

    batch: ExampleBatch
    partition: np.ndarray  # (n,) int64


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step came to."""

    lesson: Lesson | None  # None: there was nothing to learn
    changes: dict[str, np.ndarray]


def lesson(progress: Progress, blocks: Sequence[bytes]) -> Lesson | None:
    """The rows of these blocks that are still to be learnt, None if there are none; `progress` moves past them.

    A block that was published twice, or overlaps one that was, teaches nothing the second time.
    """
    parts, partitions = [], []
    for value in blocks:
        reach, batch = decode_examples(value)
        parts.append(batch.take(np.flatnonzero(_wanted(progress, reach, batch))))
        partitions.append(np.full(len(parts[-1]), reach.partition, np.int64))
        progress.offsets[reach.partition] = max(progress.offsets.get(reach.partition, 0), reach.next)
        progress.watermark = max(progress.watermark, reach.watermark)
    parts = [part for part in parts if len(part)]
    return Lesson(concat(parts), np.concatenate(partitions)) if parts else None


def _wanted(progress: Progress, reach: Reach, batch: ExampleBatch) -> np.ndarray:
    wanted: np.ndarray = (batch.offset >= progress.offsets.get(reach.partition, 0)) & (batch.kind != Kind.held)
    wanted &= ~left_out(batch, progress.skip.get(reach.partition), progress.slates.get(reach.partition))
    return wanted


def left_out(batch: ExampleBatch, skip: Runs | None, slates: Runs | None) -> np.ndarray:
    """Which rows, (n,) bool, are not to be learnt: of events at these offsets, or of slates shown there."""
    out = np.zeros(len(batch), np.bool_)
    if skip:
        out |= _of(batch, skip)
    if slates:
        out |= _of(batch, slates) & ~((batch.kind == Kind.action) & batch.organic)
    return out


def _of(batch: ExampleBatch, runs: Runs) -> np.ndarray:
    ranges = np.array(sorted(runs), np.int64)
    inside_: np.ndarray = inside(ranges, batch.offset) | inside(ranges, batch.origin)
    return inside_


def inside(ranges: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Which offsets, (n,) bool, lie in one of the ranges, (r, 2) from and to, sorted; they may overlap."""
    last = np.searchsorted(ranges[:, 0], offsets, side="right") - 1
    reached = np.maximum.accumulate(ranges[:, 1])
    inside: np.ndarray = (last >= 0) & (offsets < reached[np.maximum(last, 0)])
    return inside


def take(log: EventLog, stack: Stack, progress: Progress, entry: Step, blocks: Sequence[bytes]) -> Taken:
    """Take one step of the journal: the items and orders it had read, then the rows it consumed.

    All learning goes through here: the live process, its recovery, and replay.
    """
    progress.items = learn_items(log, stack, progress.items, entry.items)
    progress.step = entry.step
    progress.control = max(progress.control, entry.control)
    stack.past.follow(log, entry.control)
    for read in entry.reads:
        progress.examples[read.partition] = read.next
    learnt = lesson(progress, blocks)
    if learnt is not None:
        stack.learn(learnt.batch)
    return Taken(learnt, stack.changes())


def reads_of(batches: Sequence[Records]) -> list[Read]:
    """What a step is about to consume, in the order it will."""
    return [Read(records.partition, records.offsets[0], records.offsets[-1] + 1) for records in batches if len(records)]


def blocks_of(log: EventLog, reads: Sequence[Read]) -> Iterator[bytes]:
    """The blocks that a step consumed; ValueError if the log no longer keeps them."""
    for read in reads:
        records = log.read(EXAMPLES, read.partition, read.first, read.next - read.first)
        if not len(records) or records.offsets[0] != read.first or records.offsets[-1] + 1 != read.next:
            kept = log.start(EXAMPLES, read.partition)
            raise ValueError(
                f"the journal names examples {read.first} to {read.next} of partition {read.partition}, "
                f"but the log keeps them from {kept}: it was trimmed or replaced; start from a newer checkpoint"
            )
        yield from sound_blocks(records)
