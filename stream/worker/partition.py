"""One partition of events: what has been seen of it, and its rows on the way to the examples topic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream import metrics
from stream.clock import Watermark
from stream.deduplication import Deduplicator, StaleDuplicateDetector
from stream.quarantine import AlreadyReported
from stream.records.batches import EventType, ExampleBatch, Kind, Queries
from stream.records.decoding import EventBatch
from stream.stores import StoreWatermark
from stream.users.table import ApplyResult, UserTable
from stream.worker.joiner import Joiner

NO_WATERMARK = -(1 << 62)


@dataclass(frozen=True, slots=True)
class StorePosition:
    """How far the user store is complete for a partition: its mark there, moved together with the users."""

    next_offset: int = 0  # offset of the first event that the stored users have not seen
    next_users_offset: int = 0  # the same of the users topic
    examples_end: int = 0  # where the examples topic ended: what stands behind it may cover events further on

    @property
    def text(self) -> str:
        """The mark; empty for a store that has nothing."""
        return "" if self == StorePosition() else f"{self.next_offset} {self.next_users_offset} {self.examples_end}"

    @classmethod
    def parse(cls, text: str) -> "StorePosition":
        return cls(*map(int, text.split()))


@dataclass(slots=True)
class Partition:
    """State of one partition besides its users. The users topic is read up to `users`, events up to `next`."""

    number: int
    next_offset: int
    next_users_offset: int
    watermark: Watermark
    deduplicator: Deduplicator
    joiner: Joiner
    dead_lettered: set[tuple[int, int]]  # (offset, index) of refusals that a crash left in dead-letter, but unpublished
    examples_end: int  # end of the examples topic, as far as this worker has seen
    store_position: StorePosition
    already_reported: AlreadyReported = field(
        default_factory=AlreadyReported
    )  # the same as `buried`, of quarantine and alarms
    stale_duplicates: StaleDuplicateDetector = field(default_factory=StaleDuplicateDetector)

    @property
    def reached_position(self) -> StorePosition:
        """What the store may say once the users are there."""
        return StorePosition(self.next_offset, self.next_users_offset, self.examples_end)

    def join(self, batch: EventBatch, result: ApplyResult) -> ExampleBatch:
        """Examples that these events, none of them a repeat, make known."""
        examples = mark_quarantined(build_examples(batch, result.queries), result.violation)
        if len(batch) == 0:
            return examples
        watermarks = self.watermark.update_many(batch.ts).tolist()
        rows = self.joiner.join(examples, watermarks)
        metrics.impressions_open.labels(self.number).set(len(self.joiner))
        metrics.watermark.labels(self.number).set(watermarks[-1] / 1000)
        return rows


def flush(users: UserTable, positions: Sequence[tuple[Partition, StorePosition]]) -> int:
    """Write the users that changed, with how far each partition is stored by that; returns how many there were."""
    n_written = users.flush(
        [
            StoreWatermark(partition.number, partition.store_position.text, position.text)
            for partition, position in positions
        ]
    )
    for partition, position in positions:
        partition.store_position = position
    return n_written


def build_examples(batch: EventBatch, queries: Queries) -> ExampleBatch:
    """One row per event: an impression with its list, an action with its one item."""
    is_impression = batch.type == EventType.impression
    return ExampleBatch(
        kind=np.where(is_impression, Kind.shown, Kind.action).astype(np.uint8),
        event=batch.event,
        type=batch.type,
        ts=batch.ts,
        value=batch.value,
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


def mark_quarantined(batch: ExampleBatch, violation: np.ndarray) -> ExampleBatch:
    """What the screen holds back answers no impression and teaches nothing."""
    if not violation.any():
        return batch
    is_quarantined = violation > 0
    return replace(
        batch,
        kind=np.where(is_quarantined, Kind.held, batch.kind).astype(np.uint8),
        impression=np.where(is_quarantined, np.uint64(0), batch.impression),
    )


def split_blocks(batch: ExampleBatch, first: int, next_: int, max_rows: int) -> Iterator[tuple[int, int, ExampleBatch]]:
    """Cut examples into (first, next, rows) of at most about `rows` rows, never within one record's rows."""
    start = 0
    while len(batch) - start > max_rows:
        cut = start + max_rows
        while cut < len(batch) and batch.offset[cut] == batch.offset[cut - 1]:
            cut += 1
        if cut == len(batch):
            break
        boundary = int(batch.offset[cut])
        yield first, boundary, batch.take(np.arange(start, cut))
        first, start = boundary, cut
    yield first, next_, batch if start == 0 else batch.take(np.arange(start, len(batch)))
