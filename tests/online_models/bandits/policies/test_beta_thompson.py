"""The chances of a Thompson draw, computed instead of drawn."""

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


def chances(clicks: np.ndarray, shown: np.ndarray, base: float, strength: float = 4.0) -> np.ndarray:
    """Of arms that were clicked and shown so often, upon a prior of that mean."""
    base = min(max(base, 1e-3), 0.999)
    alpha, beta = clicks + strength * base, np.maximum(shown - clicks, 0.0) + strength * (1 - base)
    total = alpha + beta
    return BetaThompson().probabilities(Posterior(alpha / total, np.sqrt(alpha * beta / (total + 1)) / total))


@pytest.mark.parametrize(("clicks", "shown"), ARMS.values(), ids=ARMS.keys())
def test_chances_are_how_often_a_draw_is_the_greatest(clicks: list[int], shown: list[int]) -> None:
    base, strength, n = 0.1, 4.0, 40_000
    alpha, beta = np.array(clicks) + strength * base, np.array(shown) - clicks + strength * (1 - base)
    draws = np.random.default_rng(3).beta(alpha, beta, (n, len(clicks)))
    drawn = np.bincount(draws.argmax(axis=1), minlength=len(clicks)) / n

    told = chances(np.array(clicks, float), np.array(shown, float), base, strength)

    assert np.abs(told - drawn).max() < 0.015


@given(
    counts=st.lists(st.tuples(st.floats(0, 1e7), st.floats(0, 1e7)), min_size=1, max_size=40),
    base=st.floats(0, 1),
)
def test_chances_are_a_distribution_whatever_was_counted(counts: list[tuple[float, float]], base: float) -> None:
    clicks, shown = np.array(counts).T

    told = chances(clicks, shown, base)

    assert np.isfinite(told).all()
    assert (told >= 0).all()
    assert told.sum() == pytest.approx(1)


def test_equal_arms_have_equal_chances() -> None:
    assert chances(np.full(7, 2.0), np.full(7, 30.0), 0.05) == pytest.approx(np.full(7, 1 / 7))


def test_the_order_of_the_arms_says_nothing() -> None:
    clicks, shown = np.array([4.0, 1.0, 0.0]), np.array([20.0, 9.0, 0.0])

    assert chances(clicks[::-1], shown[::-1], 0.1)[::-1] == pytest.approx(chances(clicks, shown, 0.1))


def test_more_clicks_never_lower_a_chance() -> None:
    told = [chances(np.array([clicks, 5.0]), np.array([30.0, 30.0]), 0.1)[0] for clicks in range(0, 31, 5)]

    assert told == sorted(told)


def test_one_arm_is_certain_and_none_is_none() -> None:
    assert chances(np.array([3.0]), np.array([7.0]), 0.2).tolist() == [1.0]
    assert chances(np.zeros(0), np.zeros(0), 0.2).size == 0
