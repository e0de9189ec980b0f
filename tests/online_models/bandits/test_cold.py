"""What is thought of arms that nobody tried."""

import numpy as np
import pytest

from online_models.bandits import Beta
from online_models.bandits.cold import WarmStart

NOBODY = np.full((1, 0), np.nan), np.full((1, 0), np.nan), np.full((1, 0), np.nan)
UNKNOWN = np.array([np.nan])


def test_an_arm_of_which_nothing_is_told_is_as_any_other() -> None:
    prior = WarmStart().prior(0.05, UNKNOWN, *NOBODY)

    assert prior.means == pytest.approx([0.05])
    assert prior.spreads == pytest.approx([0.05])


def test_the_ranker_moves_the_mean_and_narrows_the_spread() -> None:
    prior = WarmStart().prior(0.05, np.array([0.15]), *NOBODY)

    assert 0.1 < prior.means[0] < 0.15
    assert prior.spreads[0] < 0.05


def test_a_nearer_neighbour_counts_for_more() -> None:
    told = np.array([[0.95, 0.2]]), np.array([[0.2, 0.0]]), np.array([[0.01, 0.01]])

    assert WarmStart().prior(0.05, UNKNOWN, *told).means[0] > 0.15


def test_a_neighbour_that_is_unsure_itself_counts_for_less() -> None:
    means, alike = np.array([[0.2], [0.2]]), np.array([[0.9], [0.9]])
    prior = WarmStart().prior(0.05, np.full(2, np.nan), alike, means, np.array([[0.01], [0.5]]))

    assert prior.means[0] > prior.means[1]
    assert prior.spreads[0] < prior.spreads[1]


def test_many_neighbours_make_nobody_certain() -> None:
    alike, means, spreads = np.full((1, 500), 0.99), np.full((1, 500), 0.1), np.full((1, 500), 0.001)

    assert WarmStart(least=0.2).prior(0.05, UNKNOWN, alike, means, spreads).spreads[0] == pytest.approx(0.01)


def test_a_warm_arm_finds_its_rate_sooner_than_a_cold_one() -> None:
    bandit = Beta()
    prior = WarmStart().prior(0.05, np.array([0.3]), np.array([[0.9]]), np.array([[0.3]]), np.array([[0.02]]))
    warm, cold = bandit.admit(np.array([1], np.uint64), prior), bandit.admit(np.array([2], np.uint64))
    x = np.zeros((1, 0))

    assert abs(bandit.judge(warm, x).means[0] - 0.3) < 0.05 < abs(bandit.judge(cold, x).means[0] - 0.3)


def test_a_share_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="ranker"):
        WarmStart(ranker=0)
