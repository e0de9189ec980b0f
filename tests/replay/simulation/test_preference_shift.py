"""A preference shift raises a drift alarm; the remedy speeds up adaptation."""

from pathlib import Path

import pytest

from replay.simulation.guard_trials import InProcessSystem
from replay.simulation.poison_recovery import compute_recall
from replay.simulation.scenarios import SCENARIOS, EventDict, World, run_in_world
from stream.alarms import read_alarms
from stream.clock import MINUTE_MS
from stream.config import GuardSettings

SHIFT = next(scenario for scenario in SCENARIOS if scenario.name == "preference shift")
WARMUP, DURATION = 40.0, 7.0  # minutes


def run_preference_shift(folder: Path, guard: GuardSettings) -> tuple[InProcessSystem, World, float]:
    """Run the scenario; return the system, the world and Recall@10 soon after the shift."""
    system, world, pending = InProcessSystem(folder, guard), World(1, 2.0), list[EventDict]()
    system.put_items(world.shop.records())
    for _, events in run_in_world(world, SHIFT, WARMUP, DURATION):
        pending += events
        if len(pending) >= 64:
            system.send_events(pending)
            pending = []
    recall = compute_recall(system, world)
    system.close()
    return system, world, recall


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_preference_shift_is_drift_and_remedy_adapts_sooner(tmp_path: Path) -> None:
    alarms_only, _, slower = run_preference_shift(tmp_path / "alarms_only", GuardSettings(auto_remediate=False))
    system, world, sooner = run_preference_shift(tmp_path / "remedies", GuardSettings())
    [alarm] = read_alarms(system.log)
    truncation = system.learn_worker.model.history_filter.truncation

    assert (alarm.kind, alarm.detector) == ("drift", "preference_shift")
    assert 0 < alarm.ts - world.start_ms < 5 * MINUTE_MS
    assert abs(truncation.start_ts - world.start_ms) < MINUTE_MS
    assert truncation.is_active(alarm.ts + MINUTE_MS)
    assert (alarms_only.learn_worker.model.history_filter.truncation.start_ts, system.learn_worker.progress.epoch) == (
        0,
        1,
    )
    assert sooner > 1.3 * slower
