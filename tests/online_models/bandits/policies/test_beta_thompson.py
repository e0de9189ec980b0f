"""Integrated probabilities of Thompson sampling against simulated draws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.bandits.policies.beta_thompson import BetaThompson
from online_models.bandits.protocols import Posterior

ARMS = {
    "never shown": ([0, 0, 0], [0, 0, 0]),
    "one ahead": ([9, 3, 3], [40, 40, 40]),
    "one shown more": ([5, 5], [10, 100]),
    "rare clicks": ([0, 1, 3, 2], [90, 90, 90, 90]),
    "many arms": (list(range(20)), [60] * 20),
}


def compute_probabilities(
    clicks: np.ndarray, impressions: np.ndarray, rate: float, strength: float = 4.0
) -> np.ndarray:
    """Probabilities of arms with these counts and a prior of mean `rate`."""
    rate = min(max(rate, 1e-3), 0.999)
    alpha, beta = clicks + strength * rate, np.maximum(impressions - clicks, 0.0) + strength * (1 - rate)
    total = alpha + beta
    return BetaThompson().probabilities(Posterior(alpha / total, np.sqrt(alpha * beta / (total + 1)) / total))


@pytest.mark.parametrize(("clicks", "impressions"), ARMS.values(), ids=ARMS.keys())
def test_probability_is_the_frequency_of_the_greatest_draw(clicks: list[int], impressions: list[int]) -> None:
    rate, strength, n = 0.1, 4.0, 40_000
    alpha, beta = np.array(clicks) + strength * rate, np.array(impressions) - clicks + strength * (1 - rate)
    draws = np.random.default_rng(3).beta(alpha, beta, (n, len(clicks)))
    frequencies = np.bincount(draws.argmax(axis=1), minlength=len(clicks)) / n

    probabilities = compute_probabilities(np.array(clicks, float), np.array(impressions, float), rate, strength)

    assert np.abs(probabilities - frequencies).max() < 0.015


@given(
    counts=st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 1e7)), min_size=1, max_size=40),
    rate=st.floats(0, 1),
)
def test_probabilities_are_a_distribution_for_any_counts(counts: list[tuple[float, float]], rate: float) -> None:
    clicks, impressions = np.array(counts).T

    probabilities = compute_probabilities(clicks, impressions, rate)

    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert probabilities.sum() == pytest.approx(1)


def test_equal_arms_have_equal_probabilities() -> None:
    assert compute_probabilities(np.full(7, 2.0), np.full(7, 30.0), 0.05) == pytest.approx(np.full(7, 1 / 7))


def test_order_of_arms_does_not_matter() -> None:
    clicks, impressions = np.array([4.0, 1.0, 0.0]), np.array([20.0, 9.0, 0.0])
    reversed_probabilities = compute_probabilities(clicks[::-1], impressions[::-1], 0.1)

    assert reversed_probabilities[::-1] == pytest.approx(compute_probabilities(clicks, impressions, 0.1))


def test_more_clicks_never_lower_a_probability() -> None:
    probabilities = [
        compute_probabilities(np.array([clicks, 5.0]), np.array([30.0, 30.0]), 0.1)[0] for clicks in range(0, 31, 5)
    ]

    assert probabilities == sorted(probabilities)


def test_single_arm_is_certain_and_no_arm_gives_nothing() -> None:
    assert compute_probabilities(np.array([3.0]), np.array([7.0]), 0.2).tolist() == [1.0]
    assert compute_probabilities(np.zeros(0), np.zeros(0), 0.2).size == 0
