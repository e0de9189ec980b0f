import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits import (
    UCB,
    BetaBernoulli,
    BetaSettings,
    BetaThompson,
    ChoiceRule,
    EpsilonGreedy,
    GaussianThompson,
    Policy,
    Posterior,
    ProbabilityBounds,
    SquareCB,
)
from online_models.checks.bandits import KEYS, UNDISCOUNTED, generate_rewards, start_bandit
from online_models.checks.policies import POSTERIORS

RULES: list[ChoiceRule] = [
    EpsilonGreedy(0.2),
    SquareCB(50.0),
    BetaThompson(),
    GaussianThompson(),
    UCB(temperature=0.2),
]


@given(
    means=st.lists(st.floats() | st.floats(0, 1), min_size=1, max_size=20),
    stds=st.lists(st.floats(0, 1) | st.floats(), min_size=20, max_size=20),
    rule=st.sampled_from(RULES),
    floor=st.floats(1e-9, 0.5),
    cap=st.floats(0.5, 1.0),
)
def test_any_posterior_gives_a_distribution(
    means: list[float], stds: list[float], rule: ChoiceRule, floor: float, cap: float
) -> None:
    posterior = Posterior(np.array(means), np.array(stds[: len(means)]))
    probabilities = Policy(rule, ProbabilityBounds(floor, cap)).probabilities(posterior)

    assert probabilities.sum() == pytest.approx(1)
    assert (probabilities > 0).all()
    assert (probabilities <= 1 + 1e-12).all()
    assert len(means) == 1 or probabilities.max() <= max(cap, 1 / len(means)) + 1e-9


def test_cap_leaves_probability_for_the_others() -> None:
    policy = Policy(EpsilonGreedy(0.0), ProbabilityBounds(floor=0.01, cap=0.8))

    assert policy.probabilities(POSTERIORS["one far ahead"]) == pytest.approx([0.1, 0.8, 0.1])


def test_squarecb_is_inverse_to_the_gap() -> None:
    probabilities = SquareCB(gamma=10.0).probabilities(Posterior(np.array([0.5, 0.1, 0.4]), np.zeros(3)))

    assert probabilities == pytest.approx([1 - 1 / 7 - 1 / 4, 1 / (3 + 4), 1 / (3 + 1)])


def test_ucb_nearly_always_chooses_the_greatest_bound() -> None:
    posterior = Posterior(np.array([0.5, 0.3, 0.1]), np.array([0.0, 0.3, 0.1]))

    assert Policy(UCB(alpha=1.0)).probabilities(posterior)[1] > 0.9999


def test_thompson_draws_from_the_posterior_of_a_beta_bandit() -> None:
    bandit = start_bandit(lambda discounting: BetaBernoulli(BetaSettings(discounting=discounting)), UNDISCOUNTED)
    bandit.learn(generate_rewards(300))
    counts = bandit.state()["counts"]
    draws = np.random.default_rng(1).beta(counts[:, 0] + counts[:, 2], counts[:, 1] + counts[:, 3], (100_000, 9))
    frequencies = np.bincount(draws.argmax(axis=1), minlength=9) / 100_000
    posterior = bandit.posterior(bandit.lookup(KEYS), np.zeros((1, 0)))

    assert Policy(BetaThompson()).probabilities(posterior) == pytest.approx(frequencies, abs=0.01)
