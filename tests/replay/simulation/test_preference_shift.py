"""When tastes change the guard says so, and what is recommended follows sooner; what is genuine is never undone."""

from pathlib import Path

import pytest

from replay.simulation.guard_trials import InProcessSystem
from replay.simulation.poison_recovery import compute_recall
from replay.simulation.scenarios import SCENARIOS, EventDict, World, run_in_world
from stream.alarms import read_alarms
from stream.config import GuardSettings

FLIP = next(scenario for scenario in SCENARIOS if scenario.name == "taste flip")
CALM, LENGTH = 40.0, 7.0  # minutes


def played(folder: Path, guard: GuardSettings) -> tuple[InProcessSystem, World, float]:
    """Recall@10 of what everybody truly likes, soon after they have come to like other things."""
    rig, world, waiting = InProcessSystem(folder, guard), World(1, 2.0), list[EventDict]()
    rig.put_items(world.shop.records())
    for _, events in run_in_world(world, FLIP, CALM, LENGTH):
        waiting += events
        if len(waiting) >= 64:
            rig.send_events(waiting)
            waiting = []
    recall = compute_recall(rig, world)
    rig.close()
    return rig, world, recall


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_change_of_tastes_is_told_as_drift_and_followed_sooner_with_the_remedy_than_without(tmp_path: Path) -> None:
    alone, _, slower = played(tmp_path / "alone", GuardSettings(auto_remediate=False))
    rig, world, sooner = played(tmp_path / "remedied", GuardSettings())
    [alarm] = read_alarms(rig.log)
    past = rig.learn_worker.model.history_filter

    assert (alarm.kind, alarm.detector) == ("drift", "preference_shift")
    assert 0 < alarm.ts - world.start_ms < 5 * 60_000
    assert abs(past.start_ts - world.start_ms) < 60_000
    assert past.is_truncated(alarm.ts + 60_000)
    assert (alone.learn_worker.model.history_filter.start_ts, rig.learn_worker.progress.epoch) == (0, 1)
    assert sooner > 1.3 * slower
