"""LinUCB posteriors against the algorithms of the paper, and discounted regression."""

import numpy as np
import pytest

from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.posteriors.disjoint_linear import DisjointLinear
from online_models.bandits.posteriors.hybrid_linear import HybridLinear, HybridSettings
from online_models.bandits.posteriors.linear_arms import LinearArmSettings
from online_models.bandits.protocols import Prior, RewardBatch

NO_DISCOUNTING = Discounting(half_life=0, change_threshold=0)
KEYS = np.arange(1, 5, dtype=np.uint64)


def make_rewards(n: int, width: int, seed: int = 0, interval_ms: int = 1000) -> RewardBatch:
    rng = np.random.default_rng(seed)
    return RewardBatch(
        arms=rng.integers(0, KEYS.size, n).astype(np.int32),
        contexts=rng.normal(0, 1, (n, width)),
        reward=(rng.random(n) < 0.4).astype(float),
        weight=np.ones(n),
        ts=interval_ms * np.arange(1, n + 1),
    )


def disjoint_reference(rewards: RewardBatch, x: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    """Li et al. 2010, Algorithm 1: means and standard deviations of arms in x, (2, arms)."""
    moments = []
    for arm in range(KEYS.size):
        rows = rewards.arms == arm
        a = ridge * np.eye(x.size) + (rewards.contexts[rows].T * weight[rows]) @ rewards.contexts[rows]
        b = (rewards.contexts[rows].T * weight[rows]) @ rewards.reward[rows]
        moments.append((np.linalg.solve(a, b) @ x, np.sqrt(x @ np.linalg.solve(a, x))))
    return np.array(moments).T


def hybrid_reference(rewards: RewardBatch, context: np.ndarray, d: int) -> np.ndarray:
    """Li et al. 2010, Algorithm 2, line by line: means and standard deviations, (2, arms)."""
    k, arms = context.size - d, range(KEYS.size)
    a0, b0 = np.eye(k), np.zeros(k)
    a, b_, b = [np.eye(d) for _ in arms], [np.zeros((d, k)) for _ in arms], [np.zeros(d) for _ in arms]
    for arm, row, r in zip(rewards.arms.tolist(), rewards.contexts, rewards.reward, strict=True):
        x, z = row[:d], row[d:]
        a0 = a0 + b_[arm].T @ np.linalg.solve(a[arm], b_[arm])
        b0 = b0 + b_[arm].T @ np.linalg.solve(a[arm], b[arm])
        a[arm], b_[arm], b[arm] = a[arm] + np.outer(x, x), b_[arm] + np.outer(x, z), b[arm] + r * x
        a0 = a0 + np.outer(z, z) - b_[arm].T @ np.linalg.solve(a[arm], b_[arm])
        b0 = b0 + r * z - b_[arm].T @ np.linalg.solve(a[arm], b[arm])
    x, z = context[:d], context[d:]
    beta, moments = np.linalg.solve(a0, b0), []
    for arm in arms:
        theta = np.linalg.solve(a[arm], b[arm] - b_[arm] @ beta)
        ax, bax = np.linalg.solve(a[arm], x), b_[arm].T @ np.linalg.solve(a[arm], x)
        s = z @ np.linalg.solve(a0, z) - 2 * z @ np.linalg.solve(a0, bax) + x @ ax + bax @ np.linalg.solve(a0, bax)
        moments.append((z @ beta + x @ theta, np.sqrt(s)))
    return np.array(moments).T


def test_disjoint_matches_algorithm_1_of_the_paper() -> None:
    rewards, x = make_rewards(3000, 6), np.linspace(-1, 1, 6)
    bandit = DisjointLinear(6, LinearArmSettings(ridge=1.0, noise=1.0, discounting=NO_DISCOUNTING))
    arms = bandit.add_arms(KEYS)
    bandit.learn(rewards)

    expected = disjoint_reference(rewards, x, rewards.weight, 1.0)

    assert np.array(bandit.posterior(arms, x[None])) == pytest.approx(expected, abs=1e-9)


def test_hybrid_matches_algorithm_2_of_the_paper() -> None:
    rewards, x = make_rewards(1500, 7), np.linspace(-1, 1, 7)
    bandit = HybridLinear(4, 3, HybridSettings(noise=1.0, discounting=NO_DISCOUNTING))
    arms = bandit.add_arms(KEYS)
    bandit.learn(rewards)

    assert np.array(bandit.posterior(arms, x[None])) == pytest.approx(hybrid_reference(rewards, x, 4), abs=1e-9)


def test_discounted_hybrid_is_joint_regression_over_all_arms() -> None:
    rewards, half_life = make_rewards(600, 5), 200.0
    bandit = HybridLinear(3, 2, HybridSettings(noise=1.0, discounting=Discounting(half_life, change_threshold=0)))
    arms = bandit.add_arms(KEYS)
    bandit.learn(rewards)

    design = np.zeros((len(rewards), 4 * 3 + 2))  # a block per arm, then the shared numbers
    for i, arm in enumerate(rewards.arms.tolist()):
        design[i, 3 * arm : 3 * arm + 3], design[i, 12:] = rewards.contexts[i, :3], rewards.contexts[i, 3:]
    weight = 2.0 ** ((rewards.ts - bandit.state()["stamp"][0]) / 1000 / half_life)
    precision = np.eye(14) + (design.T * weight) @ design
    weights = np.linalg.solve(precision, (design.T * weight) @ rewards.reward)
    x = np.linspace(-1, 1, 5)
    queries = np.zeros((4, 14))
    for arm in range(4):
        queries[arm, 3 * arm : 3 * arm + 3], queries[arm, 12:] = x[:3], x[3:]
    variance = np.einsum("ij,ij->i", queries, np.linalg.solve(precision, queries.T).T)

    posterior = bandit.posterior(arms, x[None])

    assert posterior.means == pytest.approx(queries @ weights, abs=1e-9)
    assert posterior.stds**2 == pytest.approx(variance)


def test_rewards_lose_half_their_weight_per_half_life() -> None:
    rewards, half_life = make_rewards(1000, 3), 100.0
    bandit = DisjointLinear(3, LinearArmSettings(noise=1.0, discounting=Discounting(half_life, change_threshold=0)))
    arms = bandit.add_arms(KEYS)
    bandit.learn(rewards)
    stamp = int(bandit.state()["stamp"][0])

    weight = 2.0 ** ((rewards.ts - stamp) / 1000 / half_life)
    expected = disjoint_reference(rewards, np.ones(3), weight, 1.0)

    assert 0 <= rewards.ts[-1] - stamp <= 1000 * half_life / 32
    assert np.array(bandit.posterior(arms, np.ones((1, 3)))) == pytest.approx(expected, abs=1e-9)


def test_posterior_of_a_new_arm_is_its_prior() -> None:
    prior = Prior(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.01, 0.1, 0.2, 0.5]))
    for bandit, context in ((DisjointLinear(3), [1.0, 0, 0]), (DisjointLinear(1), [1.0])):
        posterior = bandit.posterior(bandit.add_arms(KEYS, prior), np.array([context]))

        assert posterior.means == pytest.approx(prior.means)
        assert posterior.stds == pytest.approx(prior.stds)


def test_confident_prior_moves_less() -> None:
    bandit = DisjointLinear(1)
    arms = bandit.add_arms(KEYS[:2], Prior(np.array([0.1, 0.1]), np.array([0.01, 0.3])))
    bandit.learn(RewardBatch(arms, np.ones((2, 1)), np.ones(2), np.ones(2), np.ones(2, np.int64)))

    confident, uncertain = bandit.posterior(arms, np.ones((1, 1))).means

    assert 0.1 < confident < 0.11 < uncertain


def test_inverse_stays_exact_after_many_similar_updates() -> None:
    rng = np.random.default_rng(5)
    n = 60_000
    contexts = 1e-4 * rng.normal(0, 1, (n, 8)) + 1e2
    rewards = RewardBatch(np.zeros(n, np.int32), contexts, rng.random(n).round(), np.ones(n), np.arange(1, n + 1))
    bandit = DisjointLinear(8, LinearArmSettings(noise=1.0, discounting=NO_DISCOUNTING))
    arms = bandit.add_arms(KEYS[:1])
    bandit.learn(rewards)
    queries = rng.normal(0, 1, (50, 8))

    inverse = np.linalg.inv(np.eye(8) + contexts.T @ contexts)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", queries, inverse, queries))

    assert bandit.posterior(np.repeat(arms, 50), queries).stds == pytest.approx(expected, rel=1e-3)
