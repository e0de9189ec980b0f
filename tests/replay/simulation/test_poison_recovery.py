"""Once poison is undone the model recommends as well as one that never saw it."""

from dataclasses import replace

import pytest

from replay.simulation.poison_recovery import run_recovery
from replay.simulation.scenarios import SCENARIOS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_group_that_pumped_an_item_costs_less_than_one_in_a_hundred_of_what_was_found_before() -> None:
    pumping = next(scenario for scenario in SCENARIOS if scenario.name == "pumping group")
    undone = run_recovery(replace(pumping, duration_minutes=4.0), warmup=32.0, duration=6.0)

    assert undone.rollbacks == 1
    assert undone.clean > 0.3
    assert abs(undone.recall_loss) < 0.01
