"""LinUCB over discounted arms on known preferences, which stay or change halfway."""

import numpy as np
import pytest

from online_models.bandits import UCB, Bandit, Discounting, DisjointLinear, LinearArmSettings, Policy, RewardBatch

N_ARMS = 7
LIKED_ARMS, LIKED_ARMS_LATER = np.array([0, 2, 1, 0]), np.array([0, 1, 1, 1])  # by context


def run_rounds(bandit: Bandit, rates: tuple[float, float], n_rounds: int, changes: bool, seed: int) -> np.ndarray:
    """Expected clicks per round, (n,); `rates`: of any arm, and of the liked arm.

    If preferences change, they do so after `n_rounds`, and as many rounds follow.
    """
    rng, policy = np.random.default_rng(seed), Policy(UCB())
    arms, contexts = bandit.add_arms(np.arange(1, N_ARMS + 1, dtype=np.uint64)), np.eye(4)
    expected_clicks = np.empty(n_rounds * (1 + changes))
    for i, visit in enumerate(rng.integers(0, 4, expected_clicks.size).tolist()):
        x = contexts[visit : visit + 1]
        arm = int(policy.sample(bandit.posterior(arms, x), 1, rng).rows[0])
        expected_clicks[i] = rates[int(arm == (LIKED_ARMS if i < n_rounds else LIKED_ARMS_LATER)[visit])]
        reward = np.array([float(rng.random() < expected_clicks[i])])
        bandit.learn(RewardBatch(arms[arm : arm + 1], x, reward, np.ones(1), np.array([1_000 * (i + 1)])))
    return expected_clicks


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_liked_arm_is_found_at_once_and_kept(seed: int) -> None:
    bandit = DisjointLinear(4)

    # 24 misses; 12 are needed on average
    assert run_rounds(bandit, (0.0, 1.0), 3_000, changes=False, seed=seed).mean() > 0.992
    assert bandit.alarms == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_change_of_preference_is_followed(seed: int) -> None:
    assert run_rounds(DisjointLinear(4), (0.0, 1.0), 2_500, changes=True, seed=seed).mean() > 0.97


def test_dropping_refuted_history_follows_a_change() -> None:
    without_discounting = LinearArmSettings(discounting=Discounting(half_life=0, change_threshold=0))
    static, discounted = (
        run_rounds(bandit, (0.02, 0.3), 6_000, changes=True, seed=0)[6_000:].mean()
        for bandit in (DisjointLinear(4, without_discounting), DisjointLinear(4))
    )

    assert discounted > static + 0.02


@pytest.mark.parametrize("seed", [0, 1])
def test_noisy_but_stable_rewards_are_not_forgotten(seed: int) -> None:
    bandit = DisjointLinear(4)
    run_rounds(bandit, (0.02, 0.3), 6_000, changes=False, seed=seed)

    assert bandit.alarms <= 1
