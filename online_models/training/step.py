"""How far the learner has come, and the rows of the next step: which examples count, once each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from online_models.model import Stack
from online_models.state.item_table import NO_TIME
from online_models.training.journal import Read, Step
from online_models.training.offset_ranges import left_out
from stream.ids import key_of
from stream.logs import EventLog, Records
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.catalog import Change, read_items
from stream.records.example_blocks import Reach, decode_examples, sound_blocks
from stream.topics import EXAMPLES

_CATEGORIES = 4


def learn_items(log: EventLog, stack: Stack, offset: int, before: int) -> int:
    """Tell the stack what the items topic says in [offset, before); returns the offset to go on from."""
    for _, changes in read_items(log, offset, before):
        describe_items(stack, changes)
    return max(offset, before)


def describe_items(stack: Stack, changes: Sequence[Change]) -> None:
    """Admit the items with their categories, creation time and price; what is gone keeps its row unserved."""
    items = [(change.key, change.item) for change in changes if change.item is not None]
    if not items:
        return
    categories = np.zeros((len(items), _CATEGORIES), np.uint64)
    for i, (_, item) in enumerate(items):
        keys = [key_of(name) for name in item.categories[:_CATEGORIES] if name]
        categories[i, : len(keys)] = keys
    created = np.array([NO_TIME if item.created_ts is None else item.created_ts for _, item in items], np.int64)
    price = np.array([np.nan if item.price is None else item.price for _, item in items], np.float32)
    stack.describe(np.array([key for key, _ in items], np.uint64), categories, created, price)


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
