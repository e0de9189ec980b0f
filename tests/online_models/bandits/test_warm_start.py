"""Priors of new arms follow neighbors and ranker, as far as each can be trusted."""

import numpy as np
import pytest

from online_models.bandits import BetaBernoulli
from online_models.bandits.protocols import Posterior, Prior
from online_models.bandits.warm_start import WarmStart

WARM_START = WarmStart()
UNINFORMED = WARM_START.uninformed(0.05, 1)


def make_estimate(mean: float, std: float = 0.0) -> Posterior:
    return Posterior(np.array([mean]), np.array([std]))


def make_neighbor_prior(similarity: list[float], means: list[float], std: float = 0.001) -> Prior:
    """Prior of one arm from its neighbors, at a general rate of 0.05."""
    neighbors = Posterior(np.array([means]), np.full((1, len(means)), std))
    return WARM_START.from_neighbors(0.05, np.array([similarity]), neighbors)


def test_arm_without_neighbors_gets_the_general_prior() -> None:
    no_neighbors, dissimilar = make_neighbor_prior([], []), make_neighbor_prior([0.0, 0.0], [0.9, 0.9])

    for prior in (no_neighbors, dissimilar, UNINFORMED):
        assert prior.means == pytest.approx([0.05])
        assert prior.stds == pytest.approx([0.05])


def test_ranker_moves_the_mean_and_narrows_the_std() -> None:
    prior = WARM_START.prior(0.05, UNINFORMED, make_estimate(0.15))

    assert 0.1 < prior.means[0] < 0.15
    assert prior.stds[0] < 0.05


def test_uncertain_ranker_counts_less() -> None:
    confident, uncertain = (WARM_START.prior(0.05, UNINFORMED, make_estimate(0.15, std)) for std in (0.0, 0.1))

    assert confident.means[0] > uncertain.means[0] > 0.05
    assert confident.stds[0] < uncertain.stds[0]


def test_popular_neighbors_raise_the_prior_beside_the_ranker() -> None:
    liked, disliked = (
        WARM_START.prior(0.05, make_neighbor_prior([1.0], [mean]), make_estimate(0.08)) for mean in (0.1, 0.01)
    )

    assert liked.means[0] > 0.075 > disliked.means[0]


def test_more_similar_neighbor_counts_more() -> None:
    like_the_first = make_neighbor_prior([0.95, 0.2], [0.09, 0.01])
    like_the_second = make_neighbor_prior([0.2, 0.95], [0.09, 0.01])

    assert like_the_first.means[0] > 0.05 > like_the_second.means[0]


def test_uncertain_neighbor_counts_less() -> None:
    confident, uncertain = make_neighbor_prior([0.9], [0.2], 0.01), make_neighbor_prior([0.9], [0.2], 0.5)

    assert confident.means[0] > uncertain.means[0]
    assert confident.stds[0] < uncertain.stds[0]


def test_many_neighbors_never_replace_own_rewards() -> None:
    stds = [make_neighbor_prior([1.0] * n, [0.1] * n).stds[0] for n in (0, 1, 2, 8, 500)]

    assert stds == sorted(stds, reverse=True)
    assert len(set(stds)) == len(stds)
    assert stds[-1] == pytest.approx(WARM_START.neighbor * 0.05, rel=0.01)


def test_std_of_a_prior_has_a_floor() -> None:
    warm_start = WarmStart(ranker=1e-6, floor=0.2)
    prior = warm_start.prior(0.05, make_neighbor_prior([1.0] * 500, [0.1] * 500), make_estimate(0.1))

    assert prior.stds[0] == pytest.approx(0.01)


def test_warm_arm_starts_nearer_to_its_rate() -> None:
    bandit, x = BetaBernoulli(), np.zeros((1, 0))
    prior = WARM_START.prior(0.05, make_neighbor_prior([0.9], [0.3], 0.02), make_estimate(0.3))
    warm, cold = bandit.add_arms(np.array([1], np.uint64), prior), bandit.add_arms(np.array([2], np.uint64))

    assert abs(bandit.posterior(warm, x).means[0] - 0.3) < 0.07 < abs(bandit.posterior(cold, x).means[0] - 0.3)


@pytest.mark.parametrize(("name", "value"), [("ranker", 0.0), ("neighbor", 1.0)])
def test_invalid_share_is_rejected_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        WarmStart(**{name: value})
