"""What is thought of arms that nobody tried."""

import numpy as np
import pytest

from online_models.bandits import BetaBernoulli
from online_models.bandits.protocols import Posterior, Prior
from online_models.bandits.warm_start import WarmStart

WARM = WarmStart()


def told(predicted: float, unsure: float = 0.0) -> Posterior:
    return Posterior(np.array([predicted]), np.array([unsure]))


def around(similarity: list[float], means: list[float], spread: float = 0.001) -> Prior:
    """What one arm lies around at a general rate of 0.05."""
    return WARM.from_neighbors(
        0.05, np.array([similarity]), Posterior(np.array([means]), np.full((1, len(means)), spread))
    )


def test_an_arm_that_is_like_no_other_is_as_any() -> None:
    alone, unlike = around([], []), around([0.0, 0.0], [0.9, 0.9])

    for prior in (alone, unlike, WARM.uninformed(0.05, 1)):
        assert prior.means == pytest.approx([0.05])
        assert prior.stds == pytest.approx([0.05])


def test_the_ranker_moves_the_mean_and_narrows_the_spread() -> None:
    prior = WARM.prior(0.05, WARM.uninformed(0.05, 1), told(0.15))

    assert 0.1 < prior.means[0] < 0.15
    assert prior.stds[0] < 0.05


def test_a_ranker_that_is_unsure_counts_for_less() -> None:
    sure, unsure = (WARM.prior(0.05, WARM.uninformed(0.05, 1), told(0.15, by)) for by in (0.0, 0.1))

    assert sure.means[0] > unsure.means[0] > 0.05
    assert sure.stds[0] < unsure.stds[0]


def test_neighbours_that_are_liked_lift_an_arm_whatever_the_ranker_says() -> None:
    liked, disliked = (WARM.prior(0.05, around([1.0], [mean]), told(0.08)) for mean in (0.1, 0.01))

    assert liked.means[0] > 0.075 > disliked.means[0]


def test_a_nearer_neighbour_counts_for_more() -> None:
    assert around([0.95, 0.2], [0.09, 0.01]).means[0] > 0.05 > around([0.2, 0.95], [0.09, 0.01]).means[0]


def test_a_neighbour_that_is_unsure_itself_counts_for_less() -> None:
    sure, unsure = around([0.9], [0.2], 0.01), around([0.9], [0.2], 0.5)

    assert sure.means[0] > unsure.means[0]
    assert sure.stds[0] < unsure.stds[0]


def test_the_more_neighbours_the_surer_but_an_arm_is_not_its_neighbours() -> None:
    spreads = [around([1.0] * n, [0.1] * n).stds[0] for n in (0, 1, 2, 8, 500)]

    assert spreads == sorted(spreads, reverse=True)
    assert len(set(spreads)) == len(spreads)
    assert spreads[-1] == pytest.approx(WARM.neighbor * 0.05, rel=0.01)


def test_nothing_makes_anybody_certain() -> None:
    warm = WarmStart(ranker=1e-6, floor=0.2)

    assert warm.prior(0.05, around([1.0] * 500, [0.1] * 500), told(0.1)).stds[0] == pytest.approx(0.01)


def test_a_warm_arm_finds_its_rate_sooner_than_a_cold_one() -> None:
    bandit = BetaBernoulli()
    prior = WARM.prior(0.05, around([0.9], [0.3], 0.02), told(0.3))
    warm, cold = bandit.add_arms(np.array([1], np.uint64), prior), bandit.add_arms(np.array([2], np.uint64))
    x = np.zeros((1, 0))

    assert abs(bandit.posterior(warm, x).means[0] - 0.3) < 0.07 < abs(bandit.posterior(cold, x).means[0] - 0.3)


@pytest.mark.parametrize(("name", "value"), [("ranker", 0.0), ("neighbor", 1.0)])
def test_a_share_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        WarmStart(**{name: value})
