"""Arms come as often as is told: proved by counting, and watched while it runs."""

import math

import numpy as np
import pytest

from online_models.bandits import UCB, BetaThompson, EpsilonGreedy, GaussianThompson, Policy, Posterior, SquareCB
from online_models.bandits.policies.policy import _draw
from online_models.bandits.propensity_audit import PropensityAudit
from stream.jit import kernel

ASKED = Posterior(np.array([0.5, 0.45, 0.4, 0.2]), np.array([0.05, 0.1, 0.15, 0.1]))
POLICIES = {
    "epsilon": Policy(EpsilonGreedy(0.2)),
    "squarecb": Policy(SquareCB(50.0)),
    "thompson": Policy(BetaThompson()),
    "normal thompson": Policy(GaussianThompson()),
    "upper bounds": Policy(UCB(temperature=0.05)),
}


def limit(freedom: int) -> float:
    """What a chi-square of that many degrees of freedom exceeds once in a million times (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


@kernel
def drawn(
    weighed: np.ndarray, means: np.ndarray, floor: float, cap: float, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slates, (n, 2), and how likely each was: what `Policy.choose` does, over and over."""
    slates, told = np.empty((len(uniforms), 2), np.int64), np.empty(len(uniforms))
    for n in range(len(uniforms)):
        rows, propensities, _ = _draw(weighed.copy(), means, floor, cap, uniforms[n])
        slates[n, 0], slates[n, 1] = rows[0], rows[1]
        told[n] = propensities[0] * propensities[1]
    return slates, told


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES.keys())
def test_in_a_million_draws_slates_come_as_often_as_their_propensities_say(policy: Policy) -> None:
    draws, bounds = 10**6, policy.bounds
    uniforms = np.random.default_rng(11).random((draws, 2))
    slates, told = drawn(policy.rule.probabilities(ASKED), ASKED.means, bounds.floor, bounds.cap, uniforms)
    rng = np.random.default_rng(11)
    one_by_one = [policy.choose(ASKED, 2, rng) for _ in range(1_000)]
    _, first, came = np.unique(slates @ [ASKED.means.size, 1], return_index=True, return_counts=True)
    expected = told[first] * draws
    often = expected >= 10
    square = ((came - expected)[often] ** 2 / expected[often]).sum()

    assert [placed.rows.tolist() for placed in one_by_one] == slates[:1_000].tolist()
    assert [placed.propensities.prod() for placed in one_by_one] == told[:1_000].tolist()
    assert often.sum() > 5
    assert square < limit(int(often.sum()) - 1)


def test_true_chances_raise_an_alarm_as_seldom_as_is_said() -> None:
    rng, alarms = np.random.default_rng(5), 0
    for _ in range(300):
        check = PropensityAudit(false_alarm=0.05)
        for _ in range(200):
            chances = rng.dirichlet(np.full(5, 0.3))
            check.update(chances, int(rng.choice(5, p=chances)))
        alarms += check.alarm

    assert alarms <= 300 * 0.05


@pytest.mark.parametrize("wrong", [0.5, 1.25], ids=["half", "a quarter more"])
def test_chances_that_are_wrong_are_found(wrong: float) -> None:
    rng, check = np.random.default_rng(5), PropensityAudit()
    for _ in range(20_000):
        check.update(np.array([0.2, 0.8]), int(rng.random() > 0.2 * wrong))

    assert check.alarm
    assert np.sign(check.deviations[5]) == np.sign(wrong - 1)


def test_a_policy_passes_its_own_check() -> None:
    rng, check, policy = np.random.default_rng(5), PropensityAudit(), POLICIES["upper bounds"]
    for _ in range(20_000):
        check.update(policy.probabilities(ASKED), int(policy.choose(ASKED, 1, rng).rows[0]))

    assert not check.alarm
    assert np.abs(check.deviations).max() < 4.75


def test_an_impossible_false_alarm_is_refused() -> None:
    with pytest.raises(ValueError, match="false_alarm"):
        PropensityAudit(0.0)
