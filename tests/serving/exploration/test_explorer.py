"""What is explored, at what price, and that the propensities are true."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from online_models.bandits.protocols import Judged, Prior
from online_models.bandits.warm_start import WarmStart
from online_models.model import Stack
from online_models.state.item_table import NO_TIME
from serving.exploration.explorer import Exploration
from serving.exploration.fresh_items import Pool
from serving.exploration.slate_filling import Fresh, _fill, fill
from stream.config import PolicyName, Serve
from stream.jit import kernel

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
POOL = Pool(
    "000001-000000001",
    rows=np.arange(10, 14, dtype=np.int32),
    clicks=np.array([0.0, 0.0, 9.0, 0.0]),
    shown=np.array([0.0, 60.0, 30.0, 0.0]),
    around=WarmStart().strangers(0.1, 4),
    rate=0.1,
)


def told(predicted: list[float], unsure: float = 0.0) -> Judged:
    return Judged(np.array(predicted), np.full(len(predicted), unsure))


def weighed(exploration: Exploration, predicted: list[float], best: float = 0.1) -> Fresh:
    """What is thought of the pool's items, which stand last among twenty entries."""
    exploration.follow(POOL)
    start, earned = np.array([0, 4]), np.array([best])
    (fresh,) = exploration.weigh(np.arange(16, 20), POOL.rows, start, told(predicted), earned, places=10)
    return fresh


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_clicked_more_is_likelier_and_everything_has_a_chance(policy: PolicyName) -> None:
    fresh = weighed(Exploration(Serve(policy=policy)), [0.1, 0.1, 0.1, 0.1])

    assert fresh.chances.sum() == pytest.approx(1)
    assert (fresh.chances > 0).all()
    assert fresh.chances[2] > fresh.chances[0] >= fresh.chances[1]


def test_a_cold_item_starts_from_what_the_ranker_predicts() -> None:
    fresh = weighed(Exploration(Serve()), [0.3, 0.1, 0.1, 0.02])

    assert fresh.chances[0] > 2 * fresh.chances[3]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_items_like_it_did_counts_unless_the_policy_has_learnt_from_them_itself(policy: PolicyName) -> None:
    liked = Prior(np.array([0.3, 0.02, 0.1, 0.1]), np.full(4, 0.05))
    exploration = Exploration(Serve(policy=policy))
    exploration.follow(replace(POOL, around=liked))
    rows, start = POOL.rows[[0, 3, 1]], np.array([0, 3])
    (fresh,) = exploration.weigh(np.arange(3), rows, start, told([0.1] * 3), np.array([0.1]), places=10)

    if policy in ("linucb", "linear-thompson"):
        assert fresh.chances[0] == fresh.chances[1]
    else:
        assert fresh.chances[0] > fresh.chances[1] >= fresh.chances[2]


@pytest.mark.parametrize("policy", POLICIES)
def test_only_the_linear_policies_put_the_rankers_word_right(policy: PolicyName) -> None:
    stack, keys, exploration = Stack(), np.arange(1, 3, dtype=np.uint64), Exploration(Serve(policy=policy))
    exploration.follow(POOL)
    categories = np.repeat(keys[:, None] + np.uint64(6), 4, axis=1)
    rows = stack.describe(keys, categories, np.full(2, NO_TIME), np.full(2, np.nan, np.float32))
    n, width = 3_000, len(stack.feature_names)
    tried, x = rows[np.arange(n) % 2], np.zeros((n, width), np.float32)
    label = (tried == rows[0]) * (np.arange(n) % 3 == 0)  # of the first one's category a third was clicked
    stack.bandit.learn(tried, x, np.full(n, 0.1), label, np.full(n, 1_767_225_600_000))

    found = exploration.told(stack, rows, x[:5], np.array([1, 3]), np.array([0.1, 0.1]))

    if policy in ("linucb", "linear-thompson"):
        assert found.means[0] > 0.2
        assert found.means[1] < 0.05
        assert (found.spreads > 0).all()
    else:
        assert found.means.tolist() == [0.1, 0.1]
        assert found.spreads.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("policy", ["linucb", "linear-thompson"])
def test_what_is_told_by_one_who_is_unsure_counts_for_less(policy: PolicyName) -> None:
    exploration = Exploration(Serve(policy=policy))
    exploration.follow(POOL)
    sure, unsure = (
        exploration.weigh(
            np.arange(4), POOL.rows, np.array([0, 4]), told([0.1, 0.1, 0.1, 0.4], by), np.array([0.1]), places=10
        )[0]
        for by in (0.0, 10.0)
    )

    assert sure.chances[3] > unsure.chances[3]
    assert unsure.chances[3] == pytest.approx(unsure.chances[0], rel=0.01)


def test_exploring_costs_no_more_clicks_than_it_may() -> None:
    exploration, rng, lost = Exploration(Serve(explore_loss=1.0)), np.random.default_rng(0), 0.0
    for _ in range(1_000):
        fresh = weighed(exploration, [0.1] * 4, best=0.5)
        chosen = fill(np.arange(20), fresh, 10, rng)
        exploration.spend(fresh, chosen)
        lost += 10 * fresh.share * fresh.loss

    assert 0 < lost <= 10_000 / 1_000 * 1.0 + 1e-9
    assert fresh.share < 0.01


@pytest.mark.parametrize("policy", POLICIES)
def test_propensities_are_proved_while_it_runs(policy: PolicyName) -> None:
    exploration, rng = Exploration(Serve(policy=policy, explore=0.3)), np.random.default_rng(1)
    for _ in range(2_000):
        fresh = weighed(exploration, [0.1] * 4)
        exploration.spend(fresh, fill(np.arange(20), fresh, 10, rng))

    assert not exploration.alarm

    for _ in range(2_000):
        lie = Fresh(fresh.rows, fresh.chances, share=0.05)
        told = fill(np.arange(20), lie, 10, rng)
        told.told[:] = fill(np.arange(20), Fresh(fresh.rows, fresh.chances, share=0.3), 10, rng).told
        exploration.spend(lie, told)

    assert exploration.alarm


def test_questions_asked_together_are_weighed_as_if_alone() -> None:
    exploration = Exploration(Serve())
    alone = weighed(exploration, [0.3, 0.1, 0.1, 0.02])
    entries, rows = np.array([16, 17, 18, 19, 30]), np.array([10, 11, 12, 13, 12], np.int32)
    predicted, earned = told([0.3, 0.1, 0.1, 0.02, 0.1]), np.array([0.1, 0.1, 0.5])
    both = exploration.weigh(entries, rows, np.array([0, 4, 4, 5]), predicted, earned, places=10)

    assert both[0].chances.tolist() == alone.chances.tolist()
    assert both[1].rows.size == 0
    assert both[2].chances.tolist() == [1.0]


def test_slates_that_are_filled_together_share_what_may_be_lost() -> None:
    exploration = Exploration(Serve(explore_loss=1.0))
    exploration.follow(POOL)
    n = 16
    together = exploration.weigh(
        np.arange(4 * n), np.tile(POOL.rows, n), np.arange(0, 4 * n + 1, 4), told([0.1] * 4 * n), np.full(n, 0.5), 10
    )

    assert sum(10 * fresh.share * fresh.loss for fresh in together) <= 10 * n / 1_000 + 1e-9
    assert all(fresh.share > 0 for fresh in together)


# Over the whole slate


def weighed_slate(exploration: Exploration, predicted: list[float], shown: list[float]) -> Fresh:
    """What is thought of six candidates, of which the last four are the pool's."""
    exploration.follow(POOL)
    rows = np.concatenate([np.array([1, 2], np.int32), POOL.rows])
    start, earned = np.array([0, rows.size]), np.array([0.1])
    (fresh,) = exploration.weigh_slate(
        np.arange(rows.size), rows, start, told(predicted), np.array(shown), earned, places=10
    )
    return fresh


def over_slate(policy: str, **more: float) -> Exploration:
    return Exploration(Serve.model_validate({"policy": policy, "explore_over": "slate"} | more))


@pytest.mark.parametrize("policy", POLICIES)
def test_over_the_slate_the_likelier_item_is_the_likelier_draw(policy: PolicyName) -> None:
    fresh = weighed_slate(over_slate(policy), [0.4, 0.05, 0.1, 0.1, 0.1, 0.1], [1e4, 1e4, 0, 60, 30, 0])

    assert fresh.chances.sum() == pytest.approx(1)
    assert (fresh.chances > 0).all()
    assert fresh.chances.argmax() == 0
    assert fresh.chances[1] <= fresh.chances[2:].max()


def test_what_was_shown_seldom_is_drawn_more_often_than_its_mean_deserves() -> None:
    predicted = [0.1, 0.09, 0.0, 0.0, 0.0, 0.0]
    seldom = weighed_slate(over_slate("thompson"), predicted, [1e5, 1.0, 0, 60, 30, 0]).chances
    often = weighed_slate(over_slate("thompson"), predicted, [1e5, 1e5, 0, 60, 30, 0]).chances

    assert seldom[1] > 10 * often[1]


def test_fresh_items_are_judged_alike_whatever_else_may_be_drawn() -> None:
    exploration = over_slate("thompson")
    alone = weighed(exploration, [0.1] * 4).chances
    together = weighed_slate(exploration, [1e-4, 1e-4, 0.1, 0.1, 0.1, 0.1], [1e9, 1e9, 0, 60, 30, 0]).chances

    assert together[2:] == pytest.approx(alone, rel=0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_over_the_slate_propensities_are_proved_while_it_runs(policy: PolicyName) -> None:
    exploration, rng = over_slate(policy, explore=1.0, explore_loss=1000.0), np.random.default_rng(1)
    for _ in range(2_000):
        fresh = weighed_slate(exploration, [0.12, 0.08, 0.1, 0.1, 0.1, 0.1], [500, 200, 0, 60, 30, 0])
        exploration.spend(fresh, fill(np.arange(6), fresh, 4, rng))

    assert not exploration.alarm


def limit(freedom: int) -> float:
    """What a chi-square of that many degrees of freedom exceeds once in a million times (Wilson and Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 4.753 * math.sqrt(2 / (9 * freedom))) ** 3


@kernel
def filled(
    ranked: np.ndarray, rows: np.ndarray, chances: np.ndarray, share: float, budget: int, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Slates, (n, 2), and how likely each was: what `fill` does, over and over."""
    slates, told = np.empty((len(draws), 2), np.int64), np.empty(len(draws))
    for n in range(len(draws)):
        placed, _, _, _, propensities = _fill(ranked, rows, chances, share, budget, draws[n])
        slates[n, 0], slates[n, 1] = placed[0], placed[1]
        told[n] = propensities[0] * propensities[1]
    return slates, told


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_in_a_million_draws_slates_come_as_often_as_their_propensities_say(share: float) -> None:
    exploration, ranked, draws = over_slate("thompson", explore=share, explore_loss=1000.0), np.arange(6), 10**6
    fresh = weighed_slate(exploration, [0.12, 0.08, 0.1, 0.1, 0.1, 0.1], [500, 200, 0, 60, 30, 0])
    uniforms = np.random.default_rng(3).random((draws, 2, 2))
    slates, told = filled(ranked, fresh.rows, fresh.chances, share, math.ceil(2 * share), uniforms)
    rng = np.random.default_rng(3)
    one_by_one = [fill(ranked, fresh, 2, rng).placed for _ in range(1_000)]
    _, first, came = np.unique(slates @ [6, 1], return_index=True, return_counts=True)
    expected = told[first] * draws
    often = expected >= 10
    square = ((came - expected)[often] ** 2 / expected[often]).sum()

    assert [placed.rows.tolist() for placed in one_by_one] == slates[:1_000].tolist()
    assert [placed.propensities.prod() for placed in one_by_one] == told[:1_000].tolist()
    assert fresh.share == share
    assert often.sum() >= 10
    assert square < limit(often.sum() - 1)
