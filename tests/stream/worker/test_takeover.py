"""Two workers that both believe to have a partition, and stores that lose what they had: nothing goes wrong."""

import pytest

from stream.config import Settings
from stream.logs import OwnershipLost
from stream.topics import EVENTS, EXAMPLES
from stream.worker.worker import StreamWorker
from tests.stream.worker.test_worker import PARTITIONS, StreamHarness, collect_outputs, make_settings, run_phases
from tests.support.faults import CrashInjector


class TakeoverInjector(CrashInjector):
    """At one moment the worker stops, and another one takes everything over and goes on; then the first wakes up."""

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
    """A world whose worker is set aside once it has been late."""

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


@pytest.fixture(scope="module")
def baseline() -> StreamHarness:
    """A run with one worker from beginning to end."""
    return run_phases(make_settings(), CrashInjector(), phases=2, records=50)


def test_stalled_worker_changes_nothing_after_a_takeover(
    baseline: StreamHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.stream.worker.test_worker.StreamHarness", ContestedHarness)
    n_ownership_lost = n_with_invalid_blocks = 0
    for moment in range(1, baseline.injector.ticks):
        harness = run_phases(make_settings(), TakeoverInjector(moment), phases=2, records=50)
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
def test_store_that_lost_everything_is_rebuilt(
    baseline: StreamHarness, monkeypatch: pytest.MonkeyPatch, running: bool
) -> None:
    monkeypatch.setattr("tests.stream.worker.test_worker.StreamHarness", ContestedHarness)
    harness = run_phases(make_settings(), CrashInjector(), phases=2, records=50)
    harness.store._values.clear()
    harness.store._watermarks.clear()
    if not running:
        harness.restart()
    records = {
        p: [(b"u", b'{"event_id":"last","type":"click","ts":1767225600000,"user_id":"late","item_id":"a"}')]
        for p in range(1)
    }
    harness.write_records(records)
    reference = run_phases(make_settings(), CrashInjector(), phases=2, records=50)
    reference.write_records(records)
    for current in (harness, reference):
        current.catch_up()
        current.restart()
        current.catch_up()

    assert harness.read_users() == reference.read_users()


def test_store_that_lost_its_last_writes_catches_up() -> None:
    harness = ContestedHarness(make_settings(), CrashInjector())
    snapshots: list[tuple[dict[int, bytes], dict[int, str]]] = []
    reference = run_phases(make_settings(), CrashInjector(), phases=2, records=50)
    for partition in range(PARTITIONS):
        for records in [reference.log.read(EVENTS, partition, 0, 10_000)]:
            harness.write_records({partition: list(zip(records.keys, records.values, strict=True))})
    worker = StreamWorker(harness.log, harness.store, harness.settings)
    while worker.step(timeout=0) or len(snapshots) < 3:
        snapshots.append((dict(harness.store._values), dict(harness.store._watermarks)))
    expected = harness.read_users()
    harness.store._values, harness.store._watermarks = snapshots[len(snapshots) // 2]
    harness.restart()
    harness.catch_up()

    assert harness.read_users() == expected
