"""State of one partition of events, and its rows on the way to the examples topic."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream import metrics
from stream.clock import Watermark
from stream.deduplication import Deduplicator, StaleDuplicateDetector
from stream.quarantine import AlreadyReported
from stream.records.batches import EventType, ExampleBatch, Kind, Queries
from stream.records.decoding import NO_RETRACTION, EventBatch
from stream.records.example_blocks import BlockRange, encode_examples
from stream.records.item_ids import ItemIds
from stream.stores import StoreWatermark
from stream.users.merges import NO_OPERATION, OPERATION_ATTACH
from stream.users.table import ApplyResult, UserTable
from stream.worker.joiner import Joiner
from stream.worker.store_position import StorePosition

NO_WATERMARK = -(1 << 62)
_ROWS_PER_BLOCK = 512  # keeps a block below the usual record limit of a broker, 1 MB


@dataclass(frozen=True, slots=True)
class BatchStart:
    """State of a partition before a micro-batch."""

    first_offset: int
    watermark: Watermark


@dataclass(slots=True)
class Partition:
    """State of one partition except its users."""

    number: int
    next_offset: int  # of the events topic
    next_users_offset: int  # of the users topic
    watermark: Watermark
    deduplicator: Deduplicator
    joiner: Joiner
    # (offset, index) of rejected records of events, and of users, that a crash left dead-lettered
    dead_lettered: set[tuple[int, int]]
    dead_lettered_users: set[tuple[int, int]]
    examples_end: int  # end of the examples topic, as far as this worker knows
    store_position: StorePosition
    topic_id: str = ""  # of the events topic
    fingerprint: str = ""  # of the record before next_offset, empty if unknown
    already_reported: AlreadyReported = field(default_factory=AlreadyReported)  # the same for quarantine and alarms
    stale_duplicates: StaleDuplicateDetector = field(default_factory=StaleDuplicateDetector)

    @property
    def reached_position(self) -> StorePosition:
        """Position of the store after the users of this partition are written."""
        return StorePosition(
            self.next_offset, self.next_users_offset, self.examples_end, self.topic_id, self.fingerprint
        )

    def advance(self, next_offset: int, fingerprint: str) -> BatchStart:
        """Move the read position behind a micro-batch; returns the state before it."""
        start = BatchStart(self.next_offset, self.watermark.copy())
        self.next_offset, self.fingerprint = next_offset, fingerprint
        return start

    def join(self, batch: EventBatch, result: ApplyResult) -> ExampleBatch:
        """Examples that these events, none of them a duplicate, produce."""
        examples = mark_quarantined(
            mark_changes(build_examples(batch, result.queries), batch, result), result.violation
        )
        if len(batch) == 0:
            return examples
        watermarks = self.watermark.update_many(batch.ts).tolist()
        rows = self.joiner.join(examples, watermarks)
        metrics.impressions_open.labels(self.number).set(len(self.joiner))
        metrics.watermark.labels(self.number).set(watermarks[-1] / 1000)
        return rows

    def encode_blocks(
        self, start: BatchStart, examples: ExampleBatch, collect_ids: Callable[[tuple[int, int]], ItemIds]
    ) -> list[bytes]:
        """Encode the examples of a micro-batch as blocks that cover all of its events.

        Each block has its own watermark, because the process can die when only some of them are published.
        `collect_ids`: returns the item ids that events name, by their range of offsets.
        """
        watermark, blocks = start.watermark, []
        for first, end, rows in split_blocks(examples, start.first_offset, self.next_offset, _ROWS_PER_BLOCK):
            ts = watermark.update(int(rows.ts.max())) if len(rows) else watermark.ts
            block_range = BlockRange(
                partition=self.number,
                first_offset=first,
                next_offset=end,
                batch_next_offset=self.next_offset,
                watermark=NO_WATERMARK if ts is None else ts,
                next_users_offset=self.next_users_offset,
            )
            blocks.append(encode_examples(block_range, rows, collect_ids((first, end))))
        return blocks


def flush(users: UserTable, positions: Sequence[tuple[Partition, StorePosition]]) -> int:
    """Write changed users and the position of each partition; returns the number of users."""
    watermarks = [StoreWatermark(p.number, p.store_position.text, position.text) for p, position in positions]
    n_written = users.flush(watermarks)
    for partition, position in positions:
        partition.store_position = position
    return n_written


def build_examples(batch: EventBatch, queries: Queries) -> ExampleBatch:
    """Build one row per event: an impression with its list, an action with its one item."""
    is_impression = batch.type == EventType.impression
    return ExampleBatch(
        kind=np.where(is_impression, Kind.shown, Kind.action).astype(np.uint8),
        event=batch.event,
        type=batch.type,
        ts=batch.ts,
        value=batch.value,
        sign=batch.sign,
        organic=~is_impression,
        impression=batch.impression,
        offset=batch.offset,
        impression_offset=np.full(len(batch), -1, np.int64),
        version=batch.version,
        producer=batch.producer,
        queries=queries,
        lists=batch.lists,
        features=batch.features,
        feature_row=batch.feature_row,
    )


def mark_changes(examples: ExampleBatch, batch: EventBatch, result: ApplyResult) -> ExampleBatch:
    """Mark retractions and merges, with the positions of their actions in the history.

    Those without effect are held.
    """
    is_retraction = batch.retraction != NO_RETRACTION
    operation = result.operations.operation
    is_marked = is_retraction | (operation != NO_OPERATION)
    if not is_marked.any():
        return examples
    kind = np.where(result.is_undone, np.uint8(Kind.retracted), np.uint8(Kind.held))
    kind[operation == OPERATION_ATTACH] = Kind.merged
    position = examples.lists.position.copy()
    position[examples.lists.start[:-1][is_retraction]] = result.undone_position[is_retraction]
    is_attached = np.repeat(operation == OPERATION_ATTACH, np.diff(examples.lists.start))
    position[is_attached] = result.attached_position
    return replace(
        examples,
        kind=np.where(is_marked, kind, examples.kind),
        sign=np.where(is_retraction, np.int8(-1), examples.sign),
        lists=replace(examples.lists, position=position),
    )


def mark_quarantined(batch: ExampleBatch, violation: np.ndarray) -> ExampleBatch:
    """Hold events back from training, and detach the actions from their impressions."""
    if not violation.any():
        return batch
    is_quarantined = violation > 0
    is_detached = is_quarantined & (batch.type != EventType.impression)  # whose id is content, by which repeats differ
    return replace(
        batch,
        kind=np.where(is_quarantined, Kind.held, batch.kind).astype(np.uint8),
        impression=np.where(is_detached, np.uint64(0), batch.impression),
    )


def split_blocks(
    batch: ExampleBatch, first_offset: int, next_offset: int, max_rows: int
) -> Iterator[tuple[int, int, ExampleBatch]]:
    """Split examples into (first offset, next offset, rows), never within a record.

    Each part has about `max_rows` rows.
    """
    start = 0
    while len(batch) - start > max_rows:
        cut = start + max_rows
        while cut < len(batch) and batch.offset[cut] == batch.offset[cut - 1]:
            cut += 1
        if cut == len(batch):
            break
        boundary = int(batch.offset[cut])
        yield first_offset, boundary, batch.take(np.arange(start, cut))
        first_offset, start = boundary, cut
    yield first_offset, next_offset, batch if start == 0 else batch.take(np.arange(start, len(batch)))
