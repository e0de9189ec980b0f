"""How far the learner has come, and the rows of the next step: which examples count, once each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from online_models.catalogued import learn_items
from online_models.journal import Read, Step
from online_models.stack import Stack
from stream.batches import ExampleBatch, concat
from stream.logs import EventLog, Records
from stream.topics import EXAMPLES, Reach, decode_examples, sound_blocks


@dataclass(slots=True)
class Progress:
    """What the state stands for: a version, what taught it, and what was left out."""

    epoch: int = 1
    step: int = 0
    examples: dict[int, int] = field(default_factory=dict)  # next offset of the examples topic, by partition
    offsets: dict[int, int] = field(default_factory=dict)  # next offset of the events, by partition
    skip: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # offsets of events left out
    items: int = 0
    control: int = 0
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """What a step came to."""

    batch: ExampleBatch | None  # None: there was nothing to learn
    changes: dict[str, np.ndarray]


def lesson(progress: Progress, blocks: Sequence[bytes]) -> ExampleBatch | None:
    """The rows of these blocks that are still to be learnt, None if there are none; `progress` moves past them.

    A block that was published twice, or overlaps one that was, teaches nothing the second time.
    """
    parts = []
    for value in blocks:
        reach, batch = decode_examples(value)
        parts.append(batch.take(np.flatnonzero(_wanted(progress, reach, batch))))
        progress.offsets[reach.partition] = max(progress.offsets.get(reach.partition, 0), reach.next)
        progress.watermark = max(progress.watermark, reach.watermark)
    parts = [part for part in parts if len(part)]
    return concat(parts) if parts else None


def _wanted(progress: Progress, reach: Reach, batch: ExampleBatch) -> np.ndarray:
    wanted = batch.offset >= progress.offsets.get(reach.partition, 0)
    for first, next_ in progress.skip.get(reach.partition, ()):
        wanted &= ~((batch.offset >= first) & (batch.offset < next_))
        wanted &= ~((batch.origin >= first) & (batch.origin < next_))
    return wanted


def take(log: EventLog, stack: Stack, progress: Progress, entry: Step, blocks: Sequence[bytes]) -> Taken:
    """Take one step of the journal: the items it had read, then the rows it consumed.

    All learning goes through here: the live process, its recovery, and replay.
    """
    progress.items = learn_items(log, stack, progress.items, entry.items)
    progress.step = entry.step
    progress.control = max(progress.control, entry.control)
    for read in entry.reads:
        progress.examples[read.partition] = read.next
    batch = lesson(progress, blocks)
    if batch is not None:
        stack.learn(batch)
    return Taken(batch, stack.changes())


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
