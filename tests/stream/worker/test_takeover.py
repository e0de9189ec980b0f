"""Takeovers of partitions and stores that lose data change no result."""

import pytest

from stream.config import Settings
from stream.logs import OwnershipLost
from stream.testing import StoreSnapshot
from stream.topics import EVENTS, EXAMPLES
from stream.worker.worker import StreamWorker
from tests.support.faults import CrashInjector
from tests.support.stream_harness import PARTITIONS, StreamHarness, collect_outputs, make_settings, run_phases


class TakeoverInjector(CrashInjector):
    """Stall a worker at one moment while another takes over and catches up."""

    def __init__(self, moment: int) -> None:
        super().__init__()
        self.moment = moment
        self.harness: StreamHarness | None = None

    def tick(self) -> None:
        self.ticks += 1
        if self.ticks == self.moment and self.harness:
            stalled_worker, self.harness.worker = self.harness.worker, None
            self.harness.log.leave(EVENTS, "stream")
            self.harness.catch_up()
            self.harness.worker = stalled_worker


class ContestedHarness(StreamHarness):
    """Harness that replaces a worker that has lost its partitions."""

    def __init__(self, settings: Settings, injector: CrashInjector | None = None) -> None:
        super().__init__(settings, injector)
        if isinstance(self.injector, TakeoverInjector):
            self.injector.harness = self

    def catch_up(self) -> None:
        idle_steps_left = 2
        while idle_steps_left:
            try:
                self.worker = self.worker or StreamWorker(self.log, self.store, self.settings)
                idle_steps_left = 2 if self.worker.step(timeout=0) else idle_steps_left - 1
            except OwnershipLost:
                self.crashes += 1
                self.restart()
                idle_steps_left = 2


def run_contested(injector: CrashInjector) -> StreamHarness:
    return run_phases(make_settings(), injector, phases=2, records=50, harness_type=ContestedHarness)


@pytest.fixture(scope="module")
def baseline() -> StreamHarness:
    """Run with one worker from beginning to end."""
    return run_phases(make_settings(), CrashInjector(), phases=2, records=50)


def test_stalled_worker_changes_nothing_after_a_takeover(baseline: StreamHarness) -> None:
    n_ownership_lost = n_with_invalid_blocks = 0
    for moment in range(1, baseline.injector.ticks):
        harness = run_contested(TakeoverInjector(moment))
        n_ownership_lost += harness.crashes
        n_with_invalid_blocks += (
            sum(harness.log.end_offset(EXAMPLES, p) - len(harness.read_blocks(p)) for p in range(PARTITIONS)) > 0
        )
        rows, users, dead_letters = collect_outputs(harness)

        assert (rows, users) == collect_outputs(baseline)[:2], f"late at moment {moment}"
        assert set(dead_letters) == set(collect_outputs(baseline)[2]), f"late at moment {moment}"
    assert n_ownership_lost > 10
    assert n_with_invalid_blocks > 10


@pytest.mark.parametrize("running", [True, False], ids=["while it runs", "while it is away"])
def test_store_that_lost_everything_is_rebuilt(running: bool) -> None:
    harness, reference = run_contested(CrashInjector()), run_contested(CrashInjector())
    harness.store.clear()
    if not running:
        harness.restart()
    event = b'{"event_id":"last","type":"click","ts":1767225600000,"user_id":"late","item_id":"a"}'
    for current in (harness, reference):
        current.write_records({0: [(b"u", event)]})
        current.catch_up()
        current.restart()
        current.catch_up()

    assert harness.read_users() == reference.read_users()


def test_store_that_lost_its_last_writes_catches_up() -> None:
    harness = ContestedHarness(make_settings(), CrashInjector())
    reference = run_phases(make_settings(), CrashInjector(), phases=2, records=50)
    for partition in range(PARTITIONS):
        records = reference.log.read(EVENTS, partition, 0, 10_000)
        harness.write_records({partition: list(zip(records.keys, records.values, strict=True))})
    worker = StreamWorker(harness.log, harness.store, harness.settings)
    snapshots: list[StoreSnapshot] = []
    while worker.step(timeout=0) or len(snapshots) < 3:
        snapshots.append(harness.store.snapshot())
    expected = harness.read_users()
    harness.store.restore(snapshots[len(snapshots) // 2])
    harness.restart()
    harness.catch_up()

    assert harness.read_users() == expected
