"""Both LinUCBs against the paper's own arithmetic, and how their past fades."""

import numpy as np
import pytest

from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.posteriors.disjoint_linear import DisjointLinear
from online_models.bandits.posteriors.hybrid_linear import HybridLinear, HybridSettings
from online_models.bandits.posteriors.linear_arms import LinearArmSettings
from online_models.bandits.protocols import Prior, RewardBatch

STILL = Discounting(half_life=0, change_threshold=0)
KEYS = np.arange(1, 5, dtype=np.uint64)


def rewards_of(n: int, width: int, seed: int = 0, second: int = 1000) -> RewardBatch:
    rng = np.random.default_rng(seed)
    return RewardBatch(
        arms=rng.integers(0, KEYS.size, n).astype(np.int32),
        contexts=rng.normal(0, 1, (n, width)),
        reward=(rng.random(n) < 0.4).astype(float),
        weight=np.ones(n),
        ts=second * np.arange(1, n + 1),
    )


def disjoint_of_the_paper(told: RewardBatch, x: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    """Li et al. 2010, Algorithm 1: means and spreads of every arm in context x, (2, arms)."""
    judged = []
    for arm in range(KEYS.size):
        of = told.arms == arm
        a = ridge * np.eye(x.size) + (told.contexts[of].T * weight[of]) @ told.contexts[of]
        b = (told.contexts[of].T * weight[of]) @ told.reward[of]
        judged.append((np.linalg.solve(a, b) @ x, np.sqrt(x @ np.linalg.solve(a, x))))
    return np.array(judged).T


def hybrid_of_the_paper(told: RewardBatch, context: np.ndarray, d: int) -> np.ndarray:
    """Li et al. 2010, Algorithm 2, line by line: means and spreads of every arm in one context, (2, arms)."""
    k, arms = context.size - d, range(KEYS.size)
    a0, b0 = np.eye(k), np.zeros(k)
    a, b_, b = [np.eye(d) for _ in arms], [np.zeros((d, k)) for _ in arms], [np.zeros(d) for _ in arms]
    for at, row, r in zip(told.arms.tolist(), told.contexts, told.reward, strict=True):
        x, z = row[:d], row[d:]
        a0 = a0 + b_[at].T @ np.linalg.solve(a[at], b_[at])
        b0 = b0 + b_[at].T @ np.linalg.solve(a[at], b[at])
        a[at], b_[at], b[at] = a[at] + np.outer(x, x), b_[at] + np.outer(x, z), b[at] + r * x
        a0 = a0 + np.outer(z, z) - b_[at].T @ np.linalg.solve(a[at], b_[at])
        b0 = b0 + r * z - b_[at].T @ np.linalg.solve(a[at], b[at])
    x, z = context[:d], context[d:]
    beta, judged = np.linalg.solve(a0, b0), []
    for at in arms:
        theta = np.linalg.solve(a[at], b[at] - b_[at] @ beta)
        ax, bax = np.linalg.solve(a[at], x), b_[at].T @ np.linalg.solve(a[at], x)
        s = z @ np.linalg.solve(a0, z) - 2 * z @ np.linalg.solve(a0, bax) + x @ ax + bax @ np.linalg.solve(a0, bax)
        judged.append((z @ beta + x @ theta, np.sqrt(s)))
    return np.array(judged).T


def test_disjoint_judges_as_algorithm_1_of_the_paper() -> None:
    told, x = rewards_of(3000, 6), np.linspace(-1, 1, 6)
    bandit = DisjointLinear(6, LinearArmSettings(ridge=1.0, noise=1.0, discounting=STILL))
    arms = bandit.add_arms(KEYS)
    bandit.learn(told)

    expected = disjoint_of_the_paper(told, x, told.weight, 1.0)

    assert np.array(bandit.posterior(arms, x[None])) == pytest.approx(expected, abs=1e-9)


def test_hybrid_judges_as_algorithm_2_of_the_paper() -> None:
    told, x = rewards_of(1500, 7), np.linspace(-1, 1, 7)
    bandit = HybridLinear(4, 3, HybridSettings(noise=1.0, discounting=STILL))
    arms = bandit.add_arms(KEYS)
    bandit.learn(told)

    assert np.array(bandit.posterior(arms, x[None])) == pytest.approx(hybrid_of_the_paper(told, x, 4), abs=1e-9)


def test_hybrid_is_regression_over_all_arms_at_once_even_while_it_fades() -> None:
    told, half_life = rewards_of(600, 5), 200.0
    bandit = HybridLinear(3, 2, HybridSettings(noise=1.0, discounting=Discounting(half_life, change_threshold=0)))
    arms = bandit.add_arms(KEYS)
    bandit.learn(told)

    wide = np.zeros((len(told), 4 * 3 + 2))  # a block per arm, then what is shared
    for i, arm in enumerate(told.arms.tolist()):
        wide[i, 3 * arm : 3 * arm + 3], wide[i, 12:] = told.contexts[i, :3], told.contexts[i, 3:]
    weight = 2.0 ** ((told.ts - bandit.state()["stamp"][0]) / 1000 / half_life)
    precision = np.eye(14) + (wide.T * weight) @ wide
    weights = np.linalg.solve(precision, (wide.T * weight) @ told.reward)
    x = np.linspace(-1, 1, 5)
    asked = np.zeros((4, 14))
    for arm in range(4):
        asked[arm, 3 * arm : 3 * arm + 3], asked[arm, 12:] = x[:3], x[3:]

    judged = bandit.posterior(arms, x[None])

    assert judged.means == pytest.approx(asked @ weights, abs=1e-9)
    assert judged.stds**2 == pytest.approx(np.einsum("ij,ij->i", asked, np.linalg.solve(precision, asked.T).T))


def test_the_past_loses_half_of_its_weight_in_a_half_life() -> None:
    told, half_life = rewards_of(1000, 3), 100.0
    bandit = DisjointLinear(3, LinearArmSettings(noise=1.0, discounting=Discounting(half_life, change_threshold=0)))
    arms = bandit.add_arms(KEYS)
    bandit.learn(told)
    stamp = int(bandit.state()["stamp"][0])

    weight = 2.0 ** ((told.ts - stamp) / 1000 / half_life)
    expected = disjoint_of_the_paper(told, np.ones(3), weight, 1.0)

    assert 0 <= told.ts[-1] - stamp <= 1000 * half_life / 32
    assert np.array(bandit.posterior(arms, np.ones((1, 3)))) == pytest.approx(expected, abs=1e-9)


def test_a_prior_is_what_is_judged_before_anything_is_learnt() -> None:
    prior = Prior(np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.01, 0.1, 0.2, 0.5]))
    for bandit, context in ((DisjointLinear(3), [1.0, 0, 0]), (DisjointLinear(1), [1.0])):
        judged = bandit.posterior(bandit.add_arms(KEYS, prior), np.array([context]))

        assert judged.means == pytest.approx(prior.means)
        assert judged.stds == pytest.approx(prior.stds)


def test_a_sure_prior_moves_less() -> None:
    bandit = DisjointLinear(1)
    arms = bandit.add_arms(KEYS[:2], Prior(np.array([0.1, 0.1]), np.array([0.01, 0.3])))
    bandit.learn(RewardBatch(arms, np.ones((2, 1)), np.ones(2), np.ones(2), np.ones(2, np.int64)))

    sure, unsure = bandit.posterior(arms, np.ones((1, 1))).means

    assert 0.1 < sure < 0.11 < unsure


def test_an_inverse_stays_exact_after_many_updates_that_are_nearly_the_same() -> None:
    rng = np.random.default_rng(5)
    n = 60_000
    contexts = 1e-4 * rng.normal(0, 1, (n, 8)) + 1e2
    told = RewardBatch(np.zeros(n, np.int32), contexts, rng.random(n).round(), np.ones(n), np.arange(1, n + 1))
    bandit = DisjointLinear(8, LinearArmSettings(noise=1.0, discounting=STILL))
    arms = bandit.add_arms(KEYS[:1])
    bandit.learn(told)
    asked = rng.normal(0, 1, (50, 8))

    inverse = np.linalg.inv(np.eye(8) + contexts.T @ contexts)
    expected = np.sqrt(np.einsum("ij,jk,ik->i", asked, inverse, asked))

    assert bandit.posterior(np.repeat(arms, 50), asked).stds == pytest.approx(expected, rel=1e-3)
