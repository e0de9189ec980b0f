"""Arms come as often as is told: proved by counting, and watched while it runs."""

import math
from collections import Counter

import numpy as np
import pytest

from online_models.bandits import EpsilonGreedy, Judged, NormalThompson, Policy, SquareCB, Thompson, UpperBounds
from online_models.bandits.propensities import PropensityCheck

ASKED = Judged(np.array([0.5, 0.45, 0.4, 0.2]), np.array([0.05, 0.1, 0.15, 0.1]))
POLICIES = {
    "epsilon": Policy(EpsilonGreedy(0.2)),
    "squarecb": Policy(SquareCB(50.0)),
    "thompson": Policy(Thompson()),
    "normal thompson": Policy(NormalThompson()),
    "upper bounds": Policy(UpperBounds(temperature=0.05)),
}


def limit(freedom: int) -> float:
    """What a chi-square of that many degrees of freedom exceeds once in a million times (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


def square_of(policy: Policy, draws: int) -> tuple[float, int]:
    """Chi-square of how often slates of two came against what their propensities say, and its degrees of freedom."""
    rng = np.random.default_rng(11)
    came: Counter[tuple[int, int]] = Counter()
    told: dict[tuple[int, int], float] = {}
    for _ in range(draws):
        placed = policy.choose(ASKED, 2, rng)
        slate = (int(placed.rows[0]), int(placed.rows[1]))
        came[slate] += 1
        told.setdefault(slate, float(placed.propensities[0] * placed.propensities[1]))
    often = [slate for slate in told if told[slate] * draws >= 10]
    return sum((came[slate] - told[slate] * draws) ** 2 / (told[slate] * draws) for slate in often), len(often) - 1


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_slates_come_as_often_as_their_propensities_say(policy: Policy) -> None:
    square, freedom = square_of(policy, 10_000)

    assert square < limit(freedom)


@pytest.mark.slow
def test_in_a_million_draws_slates_come_as_often_as_their_propensities_say() -> None:
    square, freedom = square_of(POLICIES["upper bounds"], 1_000_000)

    assert freedom >= 5
    assert square < limit(freedom)


def test_true_chances_raise_an_alarm_as_seldom_as_is_said() -> None:
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(300):
        check = PropensityCheck(false_alarm=0.05)
        for _ in range(200):
            chances = rng.dirichlet(np.full(5, 0.3))
            check.see(chances, int(rng.choice(5, p=chances)))
        alarms += check.alarm

    assert alarms <= 300 * 0.05


@pytest.mark.parametrize("wrong", [0.5, 1.25], ids=["half", "a quarter more"])
def test_chances_that_are_wrong_are_found(wrong: float) -> None:
    rng, check = np.random.default_rng(5), PropensityCheck()
    for _ in range(20_000):
        check.see(np.array([0.2, 0.8]), int(rng.random() > 0.2 * wrong))

    assert check.alarm
    assert np.sign(check.deviations[5]) == np.sign(wrong - 1)


def test_a_policy_passes_its_own_check() -> None:
    rng, check, policy = np.random.default_rng(5), PropensityCheck(), POLICIES["upper bounds"]
    for _ in range(20_000):
        check.see(policy.chances(ASKED), int(policy.choose(ASKED, 1, rng).rows[0]))

    assert not check.alarm
    assert np.abs(check.deviations).max() < 4.75


def test_an_impossible_false_alarm_is_refused() -> None:
    with pytest.raises(ValueError, match="false_alarm"):
        PropensityCheck(0.0)
