"""Every event counts once in users, examples and dead letters, whenever the process dies."""

import msgspec
import numpy as np
import pytest

from stream.config import EventsSettings, LogSettings, Settings, StreamSettings
from stream.ids import hash_id, partition_for_id
from stream.logs import Record
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.example_blocks import BlockRange, decode_examples, encode_examples, valid_blocks
from stream.testing import Crashed
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, QUARANTINE, USERS
from stream.users.profiles import decode_profile
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator
from tests.support.faults import CrashingLog, CrashingStore, CrashInjector

PARTITIONS = 3
YEAR = 365 * 86_400_000


def make_settings(
    batch: int = 16, dedup_events: int = 1000, window: float = 60, partitions: int = PARTITIONS
) -> Settings:
    return Settings(
        log=LogSettings(partitions=partitions),
        events=EventsSettings(max_age=0, dedup_events=dedup_events),
        stream=StreamSettings(batch=batch, attribution_window=window, allowed_lateness=4, cached_users=16),
    )


class StreamHarness:
    """A log and a store that outlive the workers on them."""

    def __init__(self, settings: Settings, injector: CrashInjector | None = None) -> None:
        self.settings = settings
        self.injector = injector or CrashInjector()
        self.log, self.store = CrashingLog(self.injector, START + YEAR), CrashingStore(self.injector)
        for topic in (EVENTS, EXAMPLES, USERS):
            self.log.create(topic, settings.log.partitions)
        for topic in (DEAD_LETTER, QUARANTINE, ALARMS):
            self.log.create(topic, 1)
        self.worker: StreamWorker | None = None
        self.crashes = 0

    def write_records(self, records: dict[int, list[Record]], topic: str = EVENTS) -> None:
        for partition, partition_records in records.items():
            self.log.write(topic, partition, *partition_records)

    def catch_up(self) -> None:
        """Step until nothing is left, with a new worker whenever one dies."""
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
        return sorted(value for value in self.log.read(DEAD_LETTER, 0, 0, 1_000_000).values if value is not None)

    def read_users(self) -> dict[int, bytes]:
        return dict(self.store.scan())


def collect_outputs(harness: StreamHarness) -> tuple[list[bytes], dict[int, bytes], list[bytes]]:
    """All that a stream worker leaves behind; the borders of blocks are no part of it."""
    empty_range = BlockRange(0, 0, 0, 0, 0, 0)
    rows = [encode_examples(empty_range, harness.read_rows(p)) for p in range(harness.settings.log.partitions)]
    return rows, harness.read_users(), harness.read_dead_letters()


def run_phases(settings: Settings, injector: CrashInjector, phases: int = 3, records: int = 70) -> StreamHarness:
    """Events in phases, with records of the users topic between them: attributes, and people to forget."""
    harness = StreamHarness(settings, injector)
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


@pytest.fixture(scope="module")
def baseline() -> StreamHarness:
    """A run without a crash."""
    return run_phases(make_settings(), CrashInjector(), phases=2, records=50)


def test_crash_at_any_moment_changes_nothing(baseline: StreamHarness) -> None:
    expected = collect_outputs(baseline)
    for moment in range(baseline.injector.ticks):
        harness = run_phases(make_settings(), CrashInjector(moment), phases=2, records=50)

        assert harness.crashes == 1
        assert collect_outputs(harness) == expected, f"crash at moment {moment}"


def test_crash_during_recovery_changes_nothing(baseline: StreamHarness) -> None:
    for moment in range(1, baseline.injector.ticks, 5):
        harness = run_phases(make_settings(), CrashInjector(moment, moment % 7, 3), phases=2, records=50)

        assert harness.crashes
        assert collect_outputs(harness) == collect_outputs(baseline), (
            f"crash at moment {moment}, then {moment % 7} moments later"
        )


@pytest.mark.parametrize("batch", [1, 7, 5000])
def test_micro_batch_boundaries_do_not_change_the_outputs(baseline: StreamHarness, batch: int) -> None:
    harness = run_phases(make_settings(batch=batch), CrashInjector(), phases=2, records=50)

    assert collect_outputs(harness) == collect_outputs(baseline)


def test_crash_changes_nothing_with_many_blocks_per_micro_batch() -> None:
    # More events than ids are remembered, so that what was published but not stored must not depend on that.
    settings = make_settings(batch=5000, partitions=1)
    baseline = run_phases(settings, CrashInjector(), phases=1, records=1300)
    assert len(baseline.read_blocks(0)) > 2
    for moment in range(baseline.injector.ticks):
        harness = run_phases(settings, CrashInjector(moment), phases=1, records=1300)

        assert collect_outputs(harness) == collect_outputs(baseline), f"crash at moment {moment}"


def test_users_beyond_the_cache_have_the_same_records(baseline: StreamHarness) -> None:
    large_cache = make_settings().model_copy(
        update={"stream": StreamSettings(batch=16, attribution_window=60, allowed_lateness=4, cached_users=4096)}
    )
    harness = run_phases(large_cache, CrashInjector(), phases=2, records=50)

    assert collect_outputs(harness) == collect_outputs(baseline)


def make_record(**event: object) -> Record:
    defaults = {"event_id": "e1", "type": "click", "ts": START, "user_id": "u1"}
    return b"u1", msgspec.json.encode(defaults | event)


def make_impression(ts: int = START) -> Record:
    return make_record(event_id="shown", type="impression", ts=ts, impression_id="r1", items=["a", "b"])


def test_impression_open_at_a_restart_is_joined_afterwards() -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [make_impression()]})
    harness.catch_up()
    harness.restart()
    harness.write_records({0: [make_record(item_id="b", ts=START + 9_000, impression_id="r1")]})
    harness.catch_up()
    harness.restart()
    harness.write_records({0: [make_record(event_id="later", item_id="z", ts=START + 900_000)]})
    harness.catch_up()
    rows = harness.read_rows(0)

    assert [Kind(kind).name for kind in rows.kind] == ["shown", "action", "clicked", "action", "closed"]
    assert rows.lists.take(np.array([2, 4])).label.tolist() == [0, 1, 0, 1]
    assert not rows.organic[1]


def test_duplicate_event_after_a_restart_is_skipped() -> None:
    harness = StreamHarness(make_settings(partitions=1))
    for _ in range(3):
        harness.write_records({0: [make_record(item_id="a"), make_record(item_id="a")]})
        harness.catch_up()
        harness.restart()

    assert len(harness.read_rows(0)) == 1
    assert decode_profile(harness.read_users()[hash_id("u1")]).counts.sum() == 1


def test_forgotten_user_stays_forgotten_after_a_crash() -> None:
    for moment in range(100):
        harness = StreamHarness(make_settings(partitions=1), CrashInjector(moment))
        harness.write_records({0: [make_record(item_id="a")]})
        harness.catch_up()
        harness.write_records({0: [(b"u1", None)]}, USERS)
        harness.catch_up()
        if not harness.crashes:
            return

        assert decode_profile(harness.read_users()[hash_id("u1")]).is_empty


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"u\n1"])
def test_user_record_without_a_valid_id_is_skipped(key: bytes | None) -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [(key, b"{}"), (b"u2", b"no json"), (b"u3", b"[]"), (b"u4", b'{"a":1}')]}, USERS)
    harness.catch_up()

    assert list(harness.read_users()) == [hash_id("u4")]


def test_micro_batch_of_rejected_records_moves_on() -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [(None, b"?"), (None, None), (None, b"[1]")]})
    harness.catch_up()
    harness.restart()
    harness.catch_up()
    dead_letters = [msgspec.json.decode(letter) for letter in harness.read_dead_letters()]

    assert sorted((letter["offset"], letter["reason"]) for letter in dead_letters) == [
        (0, "not_json"),
        (1, "not_json"),
        (2, "not_object"),
    ]
    assert harness.read_blocks(0)[-1][0].next_offset == 3
