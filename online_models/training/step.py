"""How far the learner has come, and the rows of the next step: which examples count, once each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from online_models.model import RecommenderModel
from online_models.state.item_table import NO_TIME
from online_models.training.journal import OffsetRange, Step
from online_models.training.offset_ranges import excluded_rows
from stream.ids import hash_id
from stream.logs import EventLog, Records
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.catalog import CatalogChange, read_items
from stream.records.example_blocks import BlockRange, decode_examples, valid_blocks
from stream.topics import EXAMPLES

_MAX_CATEGORIES = 4


def apply_item_changes(log: EventLog, model: RecommenderModel, offset: int, end_offset: int) -> int:
    """Tell the stack what the items topic says in [offset, before); returns the offset to go on from."""
    for _, changes in read_items(log, offset, end_offset):
        set_item_attributes(model, changes)
    return max(offset, end_offset)


def set_item_attributes(model: RecommenderModel, changes: Sequence[CatalogChange]) -> None:
    """Admit the items with their categories, creation time and price; what is gone keeps its row unserved."""
    items = [(change.key, change.item) for change in changes if change.item is not None]
    if not items:
        return
    categories = np.zeros((len(items), _MAX_CATEGORIES), np.uint64)
    for i, (_, item) in enumerate(items):
        keys = [hash_id(name) for name in item.categories[:_MAX_CATEGORIES] if name]
        categories[i, : len(keys)] = keys
    created = np.array([NO_TIME if item.created_ts is None else item.created_ts for _, item in items], np.int64)
    price = np.array([np.nan if item.price is None else item.price for _, item in items], np.float32)
    model.set_item_attributes(np.array([key for key, _ in items], np.uint64), categories, created, price)


@dataclass(slots=True)
class Progress:
    """What the state stands for: a version, what taught it, and what was left out."""

    epoch: int = 1
    step: int = 0
    example_offsets: dict[int, int] = field(default_factory=dict)  # next offset of the examples topic, by partition
    offsets: dict[int, int] = field(default_factory=dict)  # next offset of the events, by partition
    skip: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # offsets of events left out
    skip_impressions: dict[int, list[tuple[int, int]]] = field(
        default_factory=dict
    )  # the same of slates and their answers alone
    items_offset: int = 0
    control_offset: int = 0
    watermark: int = 0


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Rows to learn, and the partition of events that each comes from."""

    batch: ExampleBatch
    partition: np.ndarray  # (n,) int64


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step came to."""

    training_batch: TrainingBatch | None  # None: there was nothing to learn
    changes: dict[str, np.ndarray]


def next_batch(progress: Progress, blocks: Sequence[bytes]) -> TrainingBatch | None:
    """The rows of these blocks that are still to be learnt, None if there are none; `progress` moves past them.

    A block that was published twice, or overlaps one that was, teaches nothing the second time.
    """
    parts, partitions = [], []
    for value in blocks:
        block_range, batch = decode_examples(value)
        parts.append(batch.take(np.flatnonzero(_select_new_rows(progress, block_range, batch))))
        partitions.append(np.full(len(parts[-1]), block_range.partition, np.int64))
        progress.offsets[block_range.partition] = max(
            progress.offsets.get(block_range.partition, 0), block_range.next_offset
        )
        progress.watermark = max(progress.watermark, block_range.watermark)
    parts = [part for part in parts if len(part)]
    return TrainingBatch(concat(parts), np.concatenate(partitions)) if parts else None


def _select_new_rows(progress: Progress, block_range: BlockRange, batch: ExampleBatch) -> np.ndarray:
    is_new: np.ndarray = (batch.offset >= progress.offsets.get(block_range.partition, 0)) & (batch.kind != Kind.held)
    is_new &= ~excluded_rows(
        batch, progress.skip.get(block_range.partition), progress.skip_impressions.get(block_range.partition)
    )
    return is_new


def apply_step(
    log: EventLog, model: RecommenderModel, progress: Progress, entry: Step, blocks: Sequence[bytes]
) -> StepResult:
    """Take one step of the journal: the items and orders it had read, then the rows it consumed.

    All learning goes through here: the live process, its recovery, and replay.
    """
    progress.items_offset = apply_item_changes(log, model, progress.items_offset, entry.items_offset)
    progress.step = entry.step
    progress.control_offset = max(progress.control_offset, entry.control_offset)
    model.history_filter.apply_commands(log, entry.control_offset)
    for offset_range in entry.ranges:
        progress.example_offsets[offset_range.partition] = offset_range.next
    training_batch = next_batch(progress, blocks)
    if training_batch is not None:
        model.learn(training_batch.batch)
    return StepResult(training_batch, model.changes())


def to_offset_ranges(batches: Sequence[Records]) -> list[OffsetRange]:
    """What a step is about to consume, in the order it will."""
    return [
        OffsetRange(records.partition, records.offsets[0], records.offsets[-1] + 1)
        for records in batches
        if len(records)
    ]


def read_blocks(log: EventLog, offset_ranges: Sequence[OffsetRange]) -> Iterator[bytes]:
    """The blocks that a step consumed; ValueError if the log no longer keeps them."""
    for offset_range in offset_ranges:
        records = log.read(EXAMPLES, offset_range.partition, offset_range.first, offset_range.next - offset_range.first)
        if not len(records) or records.offsets[0] != offset_range.first or records.offsets[-1] + 1 != offset_range.next:
            log_start = log.start_offset(EXAMPLES, offset_range.partition)
            raise ValueError(
                f"the journal names examples {offset_range.first} to {offset_range.next} of partition {offset_range.partition}, "
                f"but the log keeps them from {log_start}: it was trimmed or replaced; start from a newer checkpoint"
            )
        yield from valid_blocks(records)
