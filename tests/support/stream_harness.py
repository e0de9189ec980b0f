"""Stream worker on a log and a store that outlive its crashes."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from stream.config import EventsSettings, LogSettings, Settings, StreamSettings
from stream.ids import partition_for_id
from stream.logs import Record
from stream.records.batches import ExampleBatch, concat
from stream.records.example_blocks import BlockRange, decode_examples, encode_examples, valid_blocks
from stream.testing import Crashed
from stream.topics import DEAD_LETTER, EVENTS, EXAMPLES, USERS, create_topics
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator
from tests.support.faults import CrashingLog, CrashingStore, CrashInjector

PARTITIONS = 3
_YEAR_MS = 365 * 86_400_000


def make_settings(
    batch: int = 16, dedup_events: int = 1000, window: float = 60, partitions: int = PARTITIONS
) -> Settings:
    return Settings(
        log=LogSettings(partitions=partitions),
        events=EventsSettings(max_age=0, dedup_events=dedup_events),
        stream=StreamSettings(batch=batch, attribution_window=window, allowed_lateness=4, cached_users=16),
    )


def make_record(**event: object) -> Record:
    """Record of a click of user u1, with the given fields."""
    defaults = {"event_id": "e1", "type": "click", "ts": START, "user_id": "u1"}
    return b"u1", msgspec.json.encode(defaults | event)


def make_impression(ts: int = START) -> Record:
    return make_record(event_id="shown", type="impression", ts=ts, impression_id="r1", items=["a", "b"])


class StreamHarness:
    """Log and store that outlive the workers on them."""

    def __init__(self, settings: Settings, injector: CrashInjector | None = None) -> None:
        self.settings = settings
        self.injector = injector or CrashInjector()
        self.log, self.store = CrashingLog(self.injector, START + _YEAR_MS), CrashingStore(self.injector)
        create_topics(self.log, settings.log.partitions)
        self.worker: StreamWorker | None = None
        self.crashes = 0

    def write_records(self, records: Mapping[int, Sequence[Record]], topic: str = EVENTS) -> None:
        for partition, partition_records in records.items():
            self.log.write(topic, partition, *partition_records)

    def catch_up(self) -> None:
        """Step until the log has no new events; a new worker replaces each one that dies."""
        idle_steps_left = 2
        while idle_steps_left:
            try:
                self.worker = self.worker or StreamWorker(self.log, self.store, self.settings)
                idle_steps_left = 2 if self.worker.step(timeout=0) else idle_steps_left - 1
            except Crashed:
                self.log.leave(EVENTS, "stream")
                self.worker, self.crashes, idle_steps_left = None, self.crashes + 1, 2

    def restart(self) -> None:
        self.log.leave(EVENTS, "stream")
        self.worker = None

    def read_rows(self, partition: int) -> ExampleBatch:
        return concat([batch for _, batch in self.read_blocks(partition)])

    def read_blocks(self, partition: int) -> list[tuple[BlockRange, ExampleBatch]]:
        return [decode_examples(block) for block in valid_blocks(self.log.read(EXAMPLES, partition, 0, 1_000_000))]

    def read_dead_letters(self) -> list[bytes]:
        return self.read_sorted(DEAD_LETTER)

    def read_sorted(self, topic: str) -> list[bytes]:
        """Values of a topic with one partition, sorted."""
        return sorted(value for value in self.log.read(topic, 0, 0, 1_000_000).values if value is not None)

    def read_users(self) -> dict[int, bytes]:
        return dict(self.store.scan())


def collect_outputs(harness: StreamHarness) -> tuple[list[bytes], dict[int, bytes], list[bytes]]:
    """Rows of each partition, user records and dead letters; block boundaries are left out."""
    empty_range = BlockRange(0, 0, 0, 0, 0, 0)
    rows = [encode_examples(empty_range, harness.read_rows(p)) for p in range(harness.settings.log.partitions)]
    return rows, harness.read_users(), harness.read_dead_letters()


def run_phases(
    settings: Settings,
    injector: CrashInjector,
    phases: int = 3,
    records: int = 70,
    harness_type: Callable[[Settings, CrashInjector], StreamHarness] = StreamHarness,
) -> StreamHarness:
    """Process generated events in phases; in between, set attributes and forget users."""
    harness = harness_type(settings, injector)
    generator = EventGenerator(seed=5, partitions=settings.log.partitions)
    for phase in range(phases):
        harness.write_records(generator.generate_records(records))
        harness.catch_up()
        for n in range(0, generator.users, 3):
            user = f"u{n}"
            value = None if n % 2 else msgspec.json.encode({"phase": phase})
            harness.write_records({partition_for_id(user, settings.log.partitions): [(user.encode(), value)]}, USERS)
        harness.catch_up()
    return harness
