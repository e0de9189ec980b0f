"""Training progress: version, covered offsets, and the rows of the next step."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from online_models.training.offset_ranges import excluded_rows
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.example_blocks import BlockRange, decode_examples, decode_item_ids
from stream.records.item_ids import ItemIds


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """Rows to learn, and the partition of events that each row comes from."""

    batch: ExampleBatch
    partition: np.ndarray  # (n,) int64
    item_ids: Sequence[ItemIds] = ()  # ids of the items that the events of each block name


@dataclass(slots=True)
class Progress:
    """The version of a state, with the offsets that it covers and those that it leaves out."""

    epoch: int = 1
    step: int = 0
    example_offsets: dict[int, int] = field(default_factory=dict)  # next offset of the examples topic, by partition
    offsets: dict[int, int] = field(default_factory=dict)  # next offset of the events, by partition
    skip: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # excluded event offsets, by partition
    # Offsets of which only impressions, and the actions on them, are excluded.
    skip_impressions: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    items_offset: int = 0
    control_offset: int = 0
    watermark: int = 0

    def consume(self, blocks: Sequence[bytes]) -> TrainingBatch | None:
        """Move past these blocks; return their new rows, None if there are none.

        A block that was published twice, or that overlaps an earlier one, trains nothing the second time.
        """
        batches, partitions, item_ids = [], [], []
        for value in blocks:
            block_range, batch = decode_examples(value)
            new_rows = np.flatnonzero(self._is_new(block_range, batch))
            self._move_past(block_range)
            if new_rows.size:
                batches.append(batch.take(new_rows))
                partitions.append(np.full(new_rows.size, block_range.partition, np.int64))
                item_ids.append(decode_item_ids(value))
        return TrainingBatch(concat(batches), np.concatenate(partitions), item_ids) if batches else None

    def _is_new(self, block_range: BlockRange, batch: ExampleBatch) -> np.ndarray:
        partition = block_range.partition
        is_new: np.ndarray = (batch.offset >= self.offsets.get(partition, 0)) & (batch.kind != Kind.held)
        is_new &= ~excluded_rows(batch, self.skip.get(partition), self.skip_impressions.get(partition))
        return is_new

    def _move_past(self, block_range: BlockRange) -> None:
        partition = block_range.partition
        self.offsets[partition] = max(self.offsets.get(partition, 0), block_range.next_offset)
        self.watermark = max(self.watermark, block_range.watermark)
