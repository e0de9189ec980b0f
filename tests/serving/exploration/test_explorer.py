"""Exploration probabilities follow the evidence, stay within the budget, and are exact."""

import math
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from online_models.bandits.protocols import Posterior, Prior
from online_models.bandits.slate_sampling import sample_slate
from online_models.bandits.warm_start import WarmStart
from online_models.model import RecommenderModel
from online_models.state.item_table import NO_TIME
from serving.exploration.explorer import Explorer
from serving.exploration.fresh_items import FreshItemPool
from serving.exploration.slate_filling import ExplorationArms, fill
from stream.config import PolicyName, ServeSettings
from stream.jit import kernel
from tests.support.chi_square import assert_frequencies_match

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
POOL = FreshItemPool(
    "000001-000000001",
    rows=np.arange(10, 14, dtype=np.int32),
    clicks=np.array([0.0, 0.0, 9.0, 0.0]),
    impressions=np.array([0.0, 60.0, 30.0, 0.0]),
    neighbor_prior=WarmStart().uninformed(0.1, 4),
    rate=0.1,
)


def make_posterior(predicted: list[float], std: float = 0.0) -> Posterior:
    return Posterior(np.array(predicted), np.full(len(predicted), std))


def build_arms(explorer: Explorer, predicted: list[float], baseline_value: float = 0.1) -> ExplorationArms:
    """Arms of the pool's items, which are the last of twenty entries."""
    explorer.set_pool(POOL)
    start, baseline_values = np.array([0, 4]), np.array([baseline_value])
    (arms,) = explorer.build_cold_start_arms(
        np.arange(16, 20), POOL.rows, start, make_posterior(predicted), baseline_values, slate_size=10
    )
    return arms


@pytest.mark.parametrize("policy", POLICIES)
def test_items_with_more_clicks_get_higher_probabilities(policy: PolicyName) -> None:
    arms = build_arms(Explorer(ServeSettings(policy=policy)), [0.1, 0.1, 0.1, 0.1])

    assert arms.probabilities.sum() == pytest.approx(1)
    assert (arms.probabilities > 0).all()
    assert arms.probabilities[2] > arms.probabilities[0] >= arms.probabilities[1]


def test_cold_item_starts_from_the_ranker_prediction() -> None:
    arms = build_arms(Explorer(ServeSettings()), [0.3, 0.1, 0.1, 0.02])

    assert arms.probabilities[0] > 2 * arms.probabilities[3]


@pytest.mark.parametrize("policy", POLICIES)
def test_neighbor_priors_count_except_for_linear_policies(policy: PolicyName) -> None:
    prior = Prior(np.array([0.3, 0.02, 0.1, 0.1]), np.full(4, 0.05))
    explorer = Explorer(ServeSettings(policy=policy))
    explorer.set_pool(replace(POOL, neighbor_prior=prior))
    rows, start = POOL.rows[[0, 3, 1]], np.array([0, 3])
    (arms,) = explorer.build_cold_start_arms(
        np.arange(3), rows, start, make_posterior([0.1] * 3), np.array([0.1]), slate_size=10
    )

    if policy in ("linucb", "linear-thompson"):
        assert arms.probabilities[0] == arms.probabilities[1]
    else:
        assert arms.probabilities[0] > arms.probabilities[1] >= arms.probabilities[2]


@pytest.mark.parametrize("policy", POLICIES)
def test_only_linear_policies_correct_the_ranker(policy: PolicyName) -> None:
    model, keys = RecommenderModel(), np.arange(1, 3, dtype=np.uint64)
    explorer = Explorer(ServeSettings(policy=policy))
    explorer.set_pool(POOL)
    categories = np.repeat(keys[:, None] + np.uint64(6), 4, axis=1)
    rows = model.set_item_attributes(keys, categories, np.full(2, NO_TIME), np.full(2, np.nan, np.float32))
    n, width = 3_000, len(model.feature_names)
    arm_rows, x = rows[np.arange(n) % 2], np.zeros((n, width), np.float32)
    label = (arm_rows == rows[0]) * (np.arange(n) % 3 == 0)  # a third of the first category is clicked
    model.bandit.learn(arm_rows, x, np.full(n, 0.1), label, np.full(n, 1_767_225_600_000))

    estimates = explorer.ranker_estimate(model, rows, x[:5], np.array([1, 3]), np.array([0.1, 0.1]))

    if policy in ("linucb", "linear-thompson"):
        assert estimates.means[0] > 0.2
        assert estimates.means[1] < 0.05
        assert (estimates.stds > 0).all()
    else:
        assert estimates.means.tolist() == [0.1, 0.1]
        assert estimates.stds.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("policy", ["linucb", "linear-thompson"])
def test_uncertain_estimates_count_less(policy: PolicyName) -> None:
    explorer = Explorer(ServeSettings(policy=policy))
    explorer.set_pool(POOL)
    entries, start, baseline_values = np.arange(4), np.array([0, 4]), np.array([0.1])
    estimates = [make_posterior([0.1, 0.1, 0.1, 0.4], std) for std in (0.0, 10.0)]
    certain, uncertain = (
        explorer.build_cold_start_arms(entries, POOL.rows, start, estimate, baseline_values, slate_size=10)[0]
        for estimate in estimates
    )

    assert certain.probabilities[3] > uncertain.probabilities[3]
    assert uncertain.probabilities[3] == pytest.approx(uncertain.probabilities[0], rel=0.01)


def test_exploration_stays_within_its_regret_budget() -> None:
    explorer, rng, regret = Explorer(ServeSettings(exploration_budget=1.0)), np.random.default_rng(0), 0.0
    for _ in range(1_000):
        arms = build_arms(explorer, [0.1] * 4, baseline_value=0.5)
        filled_slate = fill(np.arange(20), arms, 10, rng)
        explorer.record_slate(arms, filled_slate)
        regret += 10 * arms.exploration_rate * arms.expected_regret

    assert 0 < regret <= 10_000 / 1_000 * 1.0 + 1e-9
    assert arms.exploration_rate < 0.01


@pytest.mark.parametrize("policy", POLICIES)
def test_propensity_audit_fires_only_on_wrong_propensities(policy: PolicyName) -> None:
    explorer, rng = Explorer(ServeSettings(policy=policy, exploration_rate=0.3)), np.random.default_rng(1)
    for _ in range(2_000):
        arms = build_arms(explorer, [0.1] * 4)
        explorer.record_slate(arms, fill(np.arange(20), arms, 10, rng))

    assert not explorer.has_alarm

    for _ in range(2_000):
        logged_arms = ExplorationArms(arms.rows, arms.probabilities, exploration_rate=0.3)
        wrong_arms = ExplorationArms(arms.rows, arms.probabilities, exploration_rate=0.05)
        filled_slate = fill(np.arange(20), wrong_arms, 10, rng)
        filled_slate.probabilities[:] = fill(np.arange(20), logged_arms, 10, rng).probabilities
        explorer.record_slate(wrong_arms, filled_slate)

    assert explorer.has_alarm


def test_batched_requests_get_the_arms_of_single_requests() -> None:
    explorer = Explorer(ServeSettings())
    single = build_arms(explorer, [0.3, 0.1, 0.1, 0.02])
    entries, rows = np.array([16, 17, 18, 19, 30]), np.array([10, 11, 12, 13, 12], np.int32)
    predicted, baseline_values = make_posterior([0.3, 0.1, 0.1, 0.02, 0.1]), np.array([0.1, 0.1, 0.5])
    start = np.array([0, 4, 4, 5])
    batched = explorer.build_cold_start_arms(entries, rows, start, predicted, baseline_values, slate_size=10)

    assert batched[0].probabilities.tolist() == single.probabilities.tolist()
    assert batched[1].rows.size == 0
    assert batched[2].probabilities.tolist() == [1.0]


def test_slates_of_one_batch_share_the_regret_budget() -> None:
    explorer = Explorer(ServeSettings(exploration_budget=1.0))
    explorer.set_pool(POOL)
    n = 16
    rows, start = np.tile(POOL.rows, n), np.arange(0, 4 * n + 1, 4)
    estimates, baseline_values = make_posterior([0.1] * 4 * n), np.full(n, 0.5)
    batched = explorer.build_cold_start_arms(np.arange(4 * n), rows, start, estimates, baseline_values, slate_size=10)

    assert sum(10 * arms.exploration_rate * arms.expected_regret for arms in batched) <= 10 * n / 1_000 + 1e-9
    assert all(arms.exploration_rate > 0 for arms in batched)


def build_slate_arms(explorer: Explorer, predicted: list[float], impressions: list[float]) -> ExplorationArms:
    """Arms of six candidates, of which the last four are the pool's."""
    explorer.set_pool(POOL)
    rows = np.concatenate([np.array([1, 2], np.int32), POOL.rows])
    entries, start, baseline_values = np.arange(rows.size), np.array([0, rows.size]), np.array([0.1])
    estimates, impression_counts = make_posterior(predicted), np.array(impressions)
    (arms,) = explorer.build_slate_arms(
        entries, rows, start, estimates, impression_counts, baseline_values, slate_size=10
    )
    return arms


def make_slate_explorer(policy: str, **settings: float) -> Explorer:
    return Explorer(ServeSettings.model_validate({"policy": policy, "exploration_scope": "slate"} | settings))


@pytest.mark.parametrize("policy", POLICIES)
def test_slate_scope_draws_better_items_more_often(policy: PolicyName) -> None:
    arms = build_slate_arms(make_slate_explorer(policy), [0.4, 0.05, 0.1, 0.1, 0.1, 0.1], [1e4, 1e4, 0, 60, 30, 0])

    assert arms.probabilities.sum() == pytest.approx(1)
    assert (arms.probabilities > 0).all()
    assert arms.probabilities.argmax() == 0
    assert arms.probabilities[1] <= arms.probabilities[2:].max()


def test_rarely_shown_items_are_drawn_more_often() -> None:
    predicted = [0.1, 0.09, 0.0, 0.0, 0.0, 0.0]
    rare, frequent = (
        build_slate_arms(make_slate_explorer("thompson"), predicted, [1e5, impressions, 0, 60, 30, 0]).probabilities[1]
        for impressions in (1.0, 1e5)
    )

    assert rare > 10 * frequent


def test_fresh_items_get_the_same_probabilities_in_either_scope() -> None:
    explorer = make_slate_explorer("thompson")
    fresh_scope = build_arms(explorer, [0.1] * 4).probabilities
    slate_scope = build_slate_arms(explorer, [1e-4, 1e-4, 0.1, 0.1, 0.1, 0.1], [1e9, 1e9, 0, 60, 30, 0]).probabilities

    assert slate_scope[2:] == pytest.approx(fresh_scope, rel=0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_slate_scope_propensities_pass_the_audit(policy: PolicyName) -> None:
    explorer = make_slate_explorer(policy, exploration_rate=1.0, exploration_budget=1000.0)
    rng = np.random.default_rng(1)
    for _ in range(2_000):
        arms = build_slate_arms(explorer, [0.12, 0.08, 0.1, 0.1, 0.1, 0.1], [500, 200, 0, 60, 30, 0])
        explorer.record_slate(arms, fill(np.arange(6), arms, 4, rng))

    assert not explorer.has_alarm


@kernel
def fill_slates(
    ranking: np.ndarray,
    rows: np.ndarray,
    probabilities: np.ndarray,
    exploration_rate: float,
    budget: int,
    uniforms: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Slates of two, (n, 2), and their probabilities, drawn as `fill` draws them."""
    slates, slate_probabilities = np.empty((len(uniforms), 2), np.int64), np.empty(len(uniforms))
    for n, draws in enumerate(uniforms):
        slate, _, _, _, propensities = sample_slate(ranking, rows, probabilities, exploration_rate, budget, draws)
        slates[n, 0], slates[n, 1] = slate[0], slate[1]
        slate_probabilities[n] = propensities[0] * propensities[1]
    return slates, slate_probabilities


@pytest.mark.parametrize("exploration_rate", [0.3, 1.0])
def test_slate_frequencies_match_propensities_in_a_million_draws(exploration_rate: float) -> None:
    explorer = make_slate_explorer("thompson", exploration_rate=exploration_rate, exploration_budget=1000.0)
    ranking, budget, n_draws = np.arange(6), math.ceil(2 * exploration_rate), 10**6
    arms = build_slate_arms(explorer, [0.12, 0.08, 0.1, 0.1, 0.1, 0.1], [500, 200, 0, 60, 30, 0])
    uniforms = np.random.default_rng(3).random((n_draws, 2, 2))
    slates, slate_probabilities = fill_slates(
        ranking, arms.rows, arms.probabilities, exploration_rate, budget, uniforms
    )
    rng = np.random.default_rng(3)
    selections = [fill(ranking, arms, 2, rng).selection for _ in range(1_000)]

    assert [selection.rows.tolist() for selection in selections] == slates[:1_000].tolist()
    assert [selection.propensities.prod() for selection in selections] == slate_probabilities[:1_000].tolist()
    assert arms.exploration_rate == exploration_rate
    assert_frequencies_match(slates @ [6, 1], slate_probabilities, least_outcomes=10)
