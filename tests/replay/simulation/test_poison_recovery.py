"""After the remedies the model recommends as well as one without poison."""

from dataclasses import replace

import pytest

from replay.simulation.poison_recovery import run_recovery
from replay.simulation.scenarios import SCENARIOS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_pumping_group_costs_less_than_a_hundredth_of_recall() -> None:
    pumping = next(scenario for scenario in SCENARIOS if scenario.name == "pumping group")
    result = run_recovery(replace(pumping, duration_minutes=4.0), warmup=32.0, duration=6.0)

    assert result.rollbacks == 1
    assert result.clean > 0.3
    assert abs(result.recall_loss) < 0.01
