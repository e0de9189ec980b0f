"""One training step: apply the items, commands and examples that the journal names."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from online_models import metrics
from online_models.features.history_filter import NO_TRIAL
from online_models.model import RecommenderModel
from online_models.state.item_table import N_CATEGORIES, NO_TIME
from online_models.state.tables import State
from online_models.step_result import StepResult
from online_models.training.batching import iter_batches
from online_models.training.journal import OffsetRange, Step
from online_models.training.progress import Progress, TrainingBatch
from stream.ids import hash_id
from stream.logs import EventLog, Records
from stream.records.catalog import CatalogChange, read_items
from stream.records.example_blocks import valid_blocks
from stream.records.fields import N_ITEM_KEYS, item_field_keys
from stream.topics import EXAMPLES


def apply_item_changes(log: EventLog, model: RecommenderModel, offset: int, end_offset: int) -> int:
    """Apply the records of the items topic in [offset, end_offset); return the next offset."""
    for _, changes in read_items(log, offset, end_offset):
        set_item_attributes(model, changes, admits_fields=True)
    return max(offset, end_offset)


def set_item_attributes(
    model: RecommenderModel, changes: Sequence[CatalogChange], *, admits_fields: bool = False
) -> None:
    """Add items with their categories, creation time, price and fields; mark deleted ones.

    `admits_fields`: True for the learner, which is the only one that admits new fields.
    """
    newest = {change.key: change for change in changes}
    if deleted := [key for key, change in newest.items() if change.item is None]:
        model.set_items_deleted(np.array(deleted, np.uint64))
    items = [(key, change.item) for key, change in newest.items() if change.item is not None]
    if not items:
        return
    categories = np.zeros((len(items), N_CATEGORIES), np.uint64)
    for i, (_, item) in enumerate(items):
        names = list(dict.fromkeys(name for name in item.categories if name))
        keys = [hash_id(name) for name in names[:N_CATEGORIES]]
        categories[i, : len(keys)] = keys
        metrics.categories_left_out.inc(len(names) - len(keys))
    created = np.array([NO_TIME if item.created_ts is None else item.created_ts for _, item in items], np.int64)
    price = np.array([np.nan if item.price is None else item.price for _, item in items], np.float32)
    rows = model.set_item_attributes(np.array([key for key, _ in items], np.uint64), categories, created, price)
    fields = _encode_fields([newest[key].raw for key, _ in items])
    fields = model.fields.admit(fields) if admits_fields else model.fields.select(fields)
    model.items.set_field_keys(rows, fields)


def _encode_fields(records: Sequence[bytes]) -> np.ndarray:
    """Keys of the fields of n items, (n, N_ITEM_KEYS) uint64; those over the limits are counted."""
    keys = np.zeros((len(records), N_ITEM_KEYS), np.uint64)
    for row, record in zip(keys, records, strict=True):
        found = item_field_keys(record or b"{}")
        row[: len(found.keys)] = found.keys
        metrics.item_keys_left_out.inc(found.left_out)
    return keys


def apply_step(
    log: EventLog,
    model: RecommenderModel,
    progress: Progress,
    entry: Step,
    blocks: Sequence[bytes],
    trial_start: int | None = NO_TRIAL,
) -> tuple[list[StepResult], State]:
    """Apply one step of the journal: its items and commands, then its examples.

    All learning goes through here: the live process, its recovery, and replay. Returns one result per batch that the
    model was trained on, and the changes of the model. `trial_start`: see `RecommenderModel.learn`.
    """
    progress.items_offset = apply_item_changes(log, model, progress.items_offset, entry.items_offset)
    progress.step = entry.step
    progress.control_offset = max(progress.control_offset, entry.control_offset)
    model.history_filter.apply_commands(log, entry.control_offset)
    for offset_range in entry.ranges:
        progress.example_offsets[offset_range.partition] = offset_range.next
    rows = progress.consume(blocks)
    results = learn_rows(model, rows, trial_start) if rows else []
    for ids in rows.item_ids if rows else ():
        model.items.ids.add(model.items.lookup(ids.key), ids)
    return results, model.changes()


def learn_rows(model: RecommenderModel, rows: TrainingBatch, trial_start: int | None = NO_TRIAL) -> list[StepResult]:
    """Train on the rows of a step in batches, and return one result per batch."""
    batches = iter_batches(rows, lambda: model.batch_limit)
    return [replace(model.learn(batch, trial_start), partition=partition) for batch, partition in batches]


def to_offset_ranges(batches: Sequence[Records]) -> list[OffsetRange]:
    """The offset ranges that a step is about to consume, in order."""
    return [
        OffsetRange(records.partition, records.offsets[0], records.offsets[-1] + 1)
        for records in batches
        if len(records)
    ]


def read_blocks(log: EventLog, offset_ranges: Sequence[OffsetRange]) -> Iterator[bytes]:
    """Read the blocks of a step; raise a ValueError if the log no longer keeps them."""
    for offset_range in offset_ranges:
        partition, first, end = offset_range.partition, offset_range.first, offset_range.next
        records = log.read(EXAMPLES, partition, first, end - first)
        if not len(records) or records.offsets[0] != first or records.offsets[-1] + 1 != end:
            raise ValueError(
                f"the journal names examples {first} to {end} of partition {partition}, but the log keeps them from "
                f"{log.start_offset(EXAMPLES, partition)}: it was trimmed or replaced; start from a newer checkpoint"
            )
        yield from valid_blocks(records)
