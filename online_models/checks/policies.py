"""Checks of policies: `for check in POLICY: check(Policy(rule))`."""

from collections.abc import Callable

import numpy as np

from online_models.bandits.policies.policy import Policy
from online_models.bandits.protocols import Posterior
from online_models.checks.learners import require

POSTERIORS = {
    "one arm": Posterior(np.array([0.3]), np.array([0.1])),
    "equal arms": Posterior(np.full(6, 0.3), np.full(6, 0.1)),
    "one far ahead": Posterior(np.array([0.1, 0.95, 0.2]), np.full(3, 1e-3)),
    "certain and uncertain": Posterior(np.array([0.5, 0.4, 0.45, 0.1]), np.array([1e-9, 0.2, 0.01, 0.4])),
    "forty": Posterior(np.linspace(0, 0.2, 40), np.linspace(0.1, 0.01, 40)),
}


def check_probabilities_are_a_distribution(policy: Policy) -> None:
    for name, posterior in POSTERIORS.items():
        before = np.array(posterior)
        probabilities = policy.probabilities(posterior)
        require(abs(probabilities.sum() - 1) < 1e-12, f"probabilities of {name} must sum to 1")
        least = policy.bounds.floor * (1 - 1e-9)
        require(bool((probabilities >= least).all()), f"probabilities of {name} must be {least} or more")
        require(bool((np.array(posterior) == before).all()), f"the posterior of {name} must stay as it is")
        again = policy.probabilities(posterior)
        require(bool((again == probabilities).all()), f"probabilities of {name} must repeat")


def check_equal_arms_are_equally_likely(policy: Policy) -> None:
    probabilities = policy.probabilities(POSTERIORS["equal arms"])
    require(bool(np.allclose(probabilities, 1 / 6, rtol=1e-6)), f"six equal arms must have 1/6, got {probabilities}")


def check_same_seed_same_slate(policy: Policy) -> None:
    first, second = (policy.sample(POSTERIORS["forty"], 10, np.random.default_rng(3)) for _ in range(2))
    is_same = first.rows.tolist() == second.rows.tolist()
    is_same &= first.propensities.tolist() == second.propensities.tolist()
    require(is_same, "the same seed must sample the same slate")


def check_no_arms_give_an_empty_slate(policy: Policy) -> None:
    nothing = Posterior(np.zeros(0), np.zeros(0))
    require(policy.probabilities(nothing).size == 0, "no arms must have no probabilities")
    require(policy.sample(nothing, 3, np.random.default_rng(0)).rows.size == 0, "no arms must give an empty slate")


def check_long_slate_holds_each_arm_once(policy: Policy) -> None:
    slate = policy.sample(POSTERIORS["certain and uncertain"], 9, np.random.default_rng(0))
    require(sorted(slate.rows.tolist()) == [0, 1, 2, 3], f"a slate must hold each arm once, got {slate.rows}")
    require(abs(slate.propensities[-1] - 1) < 1e-9, "the last arm left must have propensity 1")


def check_propensities_match_frequencies(policy: Policy) -> None:
    posterior, rng, n = POSTERIORS["certain and uncertain"], np.random.default_rng(1), 4_000
    slates = [policy.sample(posterior, 1, rng) for _ in range(n)]
    frequencies = np.bincount([slate.rows[0] for slate in slates], minlength=4) / n
    gap = float(abs(frequencies - policy.probabilities(posterior)).max())
    require(gap < 0.04, f"arms must be drawn by their probabilities, but frequencies differ by {gap:.3f}")


POLICY: tuple[Callable[[Policy], None], ...] = (
    check_probabilities_are_a_distribution,
    check_equal_arms_are_equally_likely,
    check_same_seed_same_slate,
    check_no_arms_give_an_empty_slate,
    check_long_slate_holds_each_arm_once,
    check_propensities_match_frequencies,
)
