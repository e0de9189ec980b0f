"""When tastes change the guard says so, and what is recommended follows sooner; what is genuine is never undone."""

from pathlib import Path

import pytest

from replay.simulation.guard_trials import Rig
from replay.simulation.poison_recovery import recall_of
from replay.simulation.scenarios import SCENARIOS, Event, World, happen
from stream.alarms import known_alarms
from stream.config import Guard

FLIP = next(scenario for scenario in SCENARIOS if scenario.name == "taste flip")
CALM, LENGTH = 40.0, 7.0  # minutes


def played(folder: Path, guard: Guard) -> tuple[Rig, World, float]:
    """Recall@10 of what everybody truly likes, soon after they have come to like other things."""
    rig, world, waiting = Rig(folder, guard), World(1, 2.0), list[Event]()
    rig.put(world.shop.records())
    for _, events in happen(world, FLIP, CALM, LENGTH):
        waiting += events
        if len(waiting) >= 64:
            rig.send(waiting)
            waiting = []
    recall = recall_of(rig, world)
    rig.close()
    return rig, world, recall


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_change_of_tastes_is_told_as_drift_and_followed_sooner_with_the_remedy_than_without(tmp_path: Path) -> None:
    alone, _, slower = played(tmp_path / "alone", Guard(remedy=False))
    rig, world, sooner = played(tmp_path / "remedied", Guard())
    [alarm] = known_alarms(rig.log)
    past = rig.learn.stack.past

    assert (alarm.kind, alarm.detector) == ("drift", "tastes")
    assert 0 < alarm.ts - world.began < 5 * 60_000
    assert abs(past.since - world.began) < 60_000
    assert past.is_cut(alarm.ts + 60_000)
    assert (alone.learn.stack.past.since, rig.learn.progress.epoch) == (0, 1)
    assert sooner > 1.3 * slower
