"""One partition of events: what has been seen of it, and its rows on the way to the examples topic."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from stream import metrics
from stream.clock import Watermark
from stream.deduplication import Repeats, SeenEvents
from stream.quarantine import Told
from stream.records.batches import EventType, ExampleBatch, Kind, Questions
from stream.records.decoding import EventBatch
from stream.stores import Mark
from stream.users.table import Applied, UserTable
from stream.worker.joiner import Joiner

NO_WATERMARK = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Stored:
    """How far the user store is complete for a partition: its mark there, moved together with the users."""

    next: int = 0  # offset of the first event that the stored users have not seen
    users: int = 0  # the same of the users topic
    examples: int = 0  # where the examples topic ended: what stands behind it may cover events further on

    @property
    def text(self) -> str:
        """The mark; empty for a store that has nothing."""
        return "" if self == Stored() else f"{self.next} {self.users} {self.examples}"

    @classmethod
    def parse(cls, text: str) -> "Stored":
        return cls(*map(int, text.split()))


@dataclass(slots=True)
class Partition:
    """State of one partition besides its users. The users topic is read up to `users`, events up to `next`."""

    number: int
    next: int
    users: int
    watermark: Watermark
    seen: SeenEvents
    joiner: Joiner
    buried: set[tuple[int, int]]  # (offset, index) of refusals that a crash left in dead-letter, but unpublished
    examples: int  # end of the examples topic, as far as this worker has seen
    stored: Stored
    told: Told = field(default_factory=Told)  # the same as `buried`, of quarantine and alarms
    repeats: Repeats = field(default_factory=Repeats)

    @property
    def reached(self) -> Stored:
        """What the store may say once the users are there."""
        return Stored(self.next, self.users, self.examples)

    def join(self, batch: EventBatch, applied: Applied) -> ExampleBatch:
        """Examples that these events, none of them a repeat, make known."""
        examples = with_held(examples_of(batch, applied.questions), applied.verdict)
        if len(batch) == 0:
            return examples
        watermarks = self.watermark.see_all(batch.ts).tolist()
        joined = self.joiner.join(examples, watermarks)
        metrics.impressions_open.labels(self.number).set(len(self.joiner))
        metrics.watermark.labels(self.number).set(watermarks[-1] / 1000)
        return joined


def flush(users: UserTable, reached: Sequence[tuple[Partition, Stored]]) -> int:
    """Write the users that changed, with how far each partition is stored by that; returns how many there were."""
    written = users.flush([Mark(partition.number, partition.stored.text, at.text) for partition, at in reached])
    for partition, at in reached:
        partition.stored = at
    return written


def examples_of(batch: EventBatch, questions: Questions) -> ExampleBatch:
    """One row per event: an impression with its list, an action with its one item."""
    shown = batch.type == EventType.impression
    return ExampleBatch(
        kind=np.where(shown, Kind.shown, Kind.action).astype(np.uint8),
        event=batch.event,
        type=batch.type,
        ts=batch.ts,
        value=batch.value,
        organic=~shown,
        impression=batch.impression,
        offset=batch.offset,
        origin=np.full(len(batch), -1, np.int64),
        version=batch.version,
        producer=batch.producer,
        questions=questions,
        lists=batch.lists,
        features=batch.features,
        served=batch.served,
    )


def with_held(batch: ExampleBatch, verdict: np.ndarray) -> ExampleBatch:
    """What the screen holds back answers no impression and teaches nothing."""
    if not verdict.any():
        return batch
    held = verdict > 0
    return replace(
        batch,
        kind=np.where(held, Kind.held, batch.kind).astype(np.uint8),
        impression=np.where(held, np.uint64(0), batch.impression),
    )


def parts(batch: ExampleBatch, first: int, next_: int, rows: int) -> Iterator[tuple[int, int, ExampleBatch]]:
    """Cut examples into (first, next, rows) of at most about `rows` rows, never within one record's rows."""
    at = 0
    while len(batch) - at > rows:
        cut = at + rows
        while cut < len(batch) and batch.offset[cut] == batch.offset[cut - 1]:
            cut += 1
        if cut == len(batch):
            break
        border = int(batch.offset[cut])
        yield first, border, batch.take(np.arange(at, cut))
        first, at = border, cut
    yield first, next_, batch if at == 0 else batch.take(np.arange(at, len(batch)))
