"""As sure as LinUCB, and forgetting in time: tastes that are known, and change when it is known."""

import numpy as np
import pytest

from online_models.bandits import UCB, Bandit, Discounting, DisjointLinear, LinearArmSettings, Policy, RewardBatch

ARMS = 7
BEFORE, AFTER = np.array([0, 2, 1, 0]), np.array([0, 1, 1, 1])  # the arm that is liked, by context


def click_through(bandit: Bandit, rates: tuple[float, float], rounds: int, flips: bool, seed: int) -> np.ndarray:
    """Expected clicks of each round, (n,); `rates`: of any arm, and of the one that is liked in this context."""
    rng, policy = np.random.default_rng(seed), Policy(UCB())
    arms, contexts = bandit.add_arms(np.arange(1, ARMS + 1, dtype=np.uint64)), np.eye(4)
    earned = np.empty(rounds * (1 + flips))
    for i, at in enumerate(rng.integers(0, 4, earned.size).tolist()):
        x = contexts[at : at + 1]
        arm = int(policy.choose(bandit.posterior(arms, x), 1, rng).rows[0])
        earned[i] = rates[int(arm == (BEFORE if i < rounds else AFTER)[at])]
        reward = np.array([float(rng.random() < earned[i])])
        bandit.learn(RewardBatch(arms[arm : arm + 1], x, reward, np.ones(1), np.array([1_000 * (i + 1)])))
    return earned


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_favourite_is_found_at_once_and_kept(seed: int) -> None:
    bandit = DisjointLinear(4)

    assert click_through(bandit, (0.0, 1.0), 3_000, False, seed).mean() > 0.992  # 24 misses; 12 are needed on average
    assert bandit.alarms == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_change_of_taste_is_followed(seed: int) -> None:
    assert click_through(DisjointLinear(4), (0.0, 1.0), 2_500, True, seed).mean() > 0.97


def test_dropping_a_refuted_past_is_what_follows_a_change() -> None:
    still = LinearArmSettings(discounting=Discounting(half_life=0, change_threshold=0))
    stubborn, ours = (
        click_through(bandit, (0.02, 0.3), 6_000, True, 0)[6_000:].mean()
        for bandit in (DisjointLinear(4, still), DisjointLinear(4))
    )

    assert ours > stubborn + 0.02


@pytest.mark.parametrize("seed", [0, 1])
def test_a_noisy_world_that_stays_is_not_forgotten(seed: int) -> None:
    bandit = DisjointLinear(4)
    click_through(bandit, (0.02, 0.3), 6_000, False, seed)

    assert bandit.alarms <= 1
