"""Checks of bandits: `for check in BANDIT: check(make)`.

`make(discounting)` gives a new bandit, each time the same, that takes contexts of width WIDTH.
"""

from collections.abc import Callable
from functools import wraps

import numpy as np

from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.protocols import Bandit, Posterior, RewardBatch
from online_models.checks.learners import (
    LEARNER,
    Exercise,
    adapt,
    assert_finite,
    assert_same_bits,
    check_replica_state_matches,
    copy_state,
    require,
)
from online_models.state.tables import State
from stream.clock import DAY_MS, MINUTE_MS

BanditFactory = Callable[[Discounting], Bandit]
WIDTH = 5
KEYS = np.arange(3, 12, dtype=np.uint64)
DISCOUNTED = Discounting(half_life=2 * 86_400, change_threshold=50)
UNDISCOUNTED = Discounting(half_life=0, change_threshold=0)
_START_MS = 1_767_225_600_000
_TOLERANCE = 1e-9


def generate_rewards(n: int = 2000, seed: int = 0, days: float = 6.0) -> RewardBatch:
    """Rewards at rates that depend on arm and context, and that reverse halfway."""
    rng = np.random.default_rng(seed)
    arms, x = rng.integers(0, KEYS.size, n), rng.normal(0, 0.5, (n, WIDTH))
    ts = np.sort(rng.integers(0, int(days * DAY_MS), n)) + _START_MS
    sign = np.where(ts < np.median(ts), 1, -1)
    rate = 1 / (1 + np.exp(-sign * (0.6 * (arms - KEYS.size / 2) + x[:, 0])))
    return RewardBatch(arms.astype(np.int32), x, (rng.random(n) < rate).astype(float), np.ones(n), ts)


def split_rewards(rewards: RewardBatch, size: int = 128) -> list[RewardBatch]:
    return [rewards.take(np.arange(i, min(i + size, len(rewards)))) for i in range(0, len(rewards), size)]


def start_bandit(make: BanditFactory, discounting: Discounting) -> Bandit:
    """A new bandit with an arm for each of KEYS."""
    bandit = make(discounting)
    bandit.add_arms(KEYS)
    return bandit


def predict_posterior(bandit: Bandit) -> Posterior:
    """Posterior of each of KEYS, each in a context of its own."""
    x = np.random.default_rng(9).normal(0, 0.5, (KEYS.size, WIDTH))
    return bandit.posterior(bandit.lookup(KEYS), x)


def _predict(bandit: Bandit) -> State:
    return predict_posterior(bandit)._asdict() if (bandit.lookup(KEYS) >= 0).all() else {}


def _learn(bandit: Bandit, rewards: RewardBatch) -> None:
    bandit.add_arms(KEYS)
    bandit.learn(rewards)


def exercise_bandit(make: BanditFactory, discounting: Discounting = DISCOUNTED) -> Exercise[Bandit, RewardBatch]:
    return Exercise(lambda: make(discounting), split_rewards(generate_rewards()), _learn, _predict)


def _with_each_discounting(
    check: Callable[[BanditFactory, Discounting], None],
) -> Callable[[BanditFactory], None]:
    @wraps(check)
    def run(make: BanditFactory) -> None:
        for discounting in (DISCOUNTED, UNDISCOUNTED):
            check(make, discounting)

    return run


def check_splitting_a_batch_changes_nothing(make: BanditFactory) -> None:
    whole, split = start_bandit(make, DISCOUNTED), start_bandit(make, DISCOUNTED)
    whole.learn(generate_rewards())
    for part in split_rewards(generate_rewards(), 77):
        split.learn(part)
    assert_same_bits(whole.state(), split.state(), "the state after split batches")


@_with_each_discounting
def check_late_and_shuffled_rewards(make: BanditFactory, discounting: Discounting) -> None:
    discounting = Discounting(discounting.half_life, change_threshold=0)
    in_time, late, shuffled = (start_bandit(make, discounting) for _ in range(3))
    rewards, rng = generate_rewards(), np.random.default_rng(4)
    arrival = np.argsort(rewards.ts + rng.exponential(10 * MINUTE_MS, len(rewards)))
    in_time.learn(rewards)
    for bandit, order in ((late, arrival), (shuffled, rng.permutation(len(rewards)))):
        for part in split_rewards(rewards.take(order), 50):
            bandit.learn(part)
        gap = max(float(abs(a - b).max()) for a, b in zip(_values(bandit), _values(in_time), strict=True))
        require(gap < _TOLERANCE, f"the posterior must not depend on the order of rewards, but moves by {gap}")


def check_invalid_rewards_are_skipped(make: BanditFactory) -> None:
    bandit = start_bandit(make, DISCOUNTED)
    bandit.learn(generate_rewards())
    before, n_invalid, good = copy_state(bandit.state()), 0, generate_rewards(40, seed=1)
    for name, value in (
        ("reward", np.nan), ("reward", np.inf), ("reward", -1), ("reward", 2),
        ("weight", np.nan), ("weight", np.inf), ("weight", -1), ("ts", -1), ("ts", 2**62),
    ):  # fmt: skip
        columns = {column: getattr(good, column).copy() for column in good.__slots__}
        columns[name][:] = value
        bandit.learn(RewardBatch(**columns))
        n_invalid += len(good)
    require(bandit.skipped == n_invalid, f"skipped must count {n_invalid} invalid rewards, got {bandit.skipped}")
    assert_same_bits(before, bandit.state(), "the state after invalid rewards")


@_with_each_discounting
def check_hostile_input_stays_finite(make: BanditFactory, discounting: Discounting) -> None:
    bandit, good = start_bandit(make, discounting), generate_rewards(300)
    for x in (np.nan, np.inf, -1e300, 1e38, 1e3, 1e-300, 0.0):
        contexts = np.full_like(good.contexts, x)
        for weight in (0.0, 1e-300, 1.0, 1e38):
            late = good.ts[::-1].copy()
            bandit.learn(RewardBatch(good.arms, contexts, good.reward, np.full(len(good), weight), late))
            posterior = bandit.posterior(bandit.lookup(KEYS), contexts[:1])
            assert_finite(posterior._asdict(), "the posterior after hostile rewards")
            assert_finite(bandit.state(), "the state after hostile rewards")
    bandit.learn(good)
    assert_finite(_predict(bandit), "the posterior after good rewards")


def check_means_follow_the_rates(make: BanditFactory) -> None:
    correlation = correlate_with_rates(start_bandit(make, UNDISCOUNTED))
    require(correlation > 0.3, f"means must correlate with the rates of the arms above 0.3, got {correlation:.2f}")


def correlate_with_rates(bandit: Bandit) -> float:
    """Train at constant rates; return the correlation of posterior means with observed rates."""
    rewards = generate_rewards(8000)
    rewards = rewards.take(np.flatnonzero(rewards.ts < np.median(rewards.ts)))
    bandit.learn(rewards)
    rates = [rewards.reward[rewards.arms == arm].mean() for arm in range(KEYS.size)]
    mean_context = rewards.contexts.mean(axis=0, keepdims=True)
    return float(np.corrcoef(bandit.posterior(bandit.lookup(KEYS), mean_context).means, rates)[0, 1])


def check_refuted_history_is_dropped(make: BanditFactory) -> None:
    adaptive, static = start_bandit(make, Discounting()), start_bandit(make, Discounting(change_threshold=0))
    n = 400
    x, arms, ones = _constant_contexts(n), np.zeros(n, np.int32), np.ones(n)
    for bandit in (adaptive, static):
        bandit.learn(RewardBatch(arms, x, ones, ones, 1000 * np.arange(1, n + 1)))
        ts = 1000 * np.arange(n + 1, n + 21)
        bandit.learn(RewardBatch(arms[:20], x[:20], np.zeros(20), np.ones(20), ts))
    row = adaptive.lookup(KEYS[:1])
    means = [float(bandit.posterior(row, x[:1]).means[0]) for bandit in (adaptive, static)]
    require(adaptive.alarms == 1, f"a reversed rate must raise one alarm, got {adaptive.alarms}")
    require(means[0] < 0.75, f"the mean must fall below 0.75 after the change, got {means[0]:.3f}")
    require(means[1] > 0.9, f"without change detection the mean must stay above 0.9, got {means[1]:.3f}")


def check_stable_rates_raise_few_alarms(make: BanditFactory) -> None:
    rng, n = np.random.default_rng(2), 100_000
    threshold = 20_000
    bandit = start_bandit(make, Discounting(change_threshold=threshold))
    arms = rng.integers(0, KEYS.size, n).astype(np.int32)
    rates = np.array([0, 0.001, 0.01, 0.05, 0.2, 0.5, 0.9, 0.99, 1.0])
    reward = (rng.random(n) < rates[arms]).astype(float)
    bandit.learn(RewardBatch(arms, _constant_contexts(n), reward, np.ones(n), 1000 * np.arange(1, n + 1)))
    most = n // threshold
    require(bandit.alarms <= most, f"{n} rewards at stable rates must raise {most} alarms at most, got {bandit.alarms}")


@_with_each_discounting
def check_removed_arm_is_unknown(make: BanditFactory, discounting: Discounting) -> None:
    bandit = start_bandit(make, discounting)
    bandit.learn(generate_rewards())
    bandit.remove_arms(bandit.lookup(KEYS[4:5]))
    require(bandit.lookup(KEYS[4:5]).tolist() == [-1], "a removed arm must have row -1")
    bandit.add_arms(KEYS[4:5])
    assert_finite(_predict(bandit), "the posterior after an arm was removed and added")


@_with_each_discounting
def check_unknown_rows_are_rejected(make: BanditFactory, discounting: Discounting) -> None:
    bandit, ones = start_bandit(make, discounting), np.ones(2)
    bandit.learn(RewardBatch(np.array([-1, 999], np.int32), np.zeros((2, WIDTH)), ones, ones, np.ones(2, int)))
    require(bandit.skipped == 1, f"skipped must count row 999 and not row -1, got {bandit.skipped}")
    for row in (-1, 999):
        try:
            bandit.posterior(np.array([row], np.int32), np.zeros((1, WIDTH)))
        except ValueError as error:
            require(f"got {row}" in str(error), f"the error must name row {row}, got {error}")
        else:
            raise AssertionError(f"the posterior of row {row} must raise ValueError")


BANDIT: tuple[Callable[[BanditFactory], None], ...] = (
    *adapt((*LEARNER, check_replica_state_matches), exercise_bandit),
    check_splitting_a_batch_changes_nothing,
    check_late_and_shuffled_rewards,
    check_invalid_rewards_are_skipped,
    check_hostile_input_stays_finite,
    check_means_follow_the_rates,
    check_refuted_history_is_dropped,
    check_stable_rates_raise_few_alarms,
    check_removed_arm_is_unknown,
    check_unknown_rows_are_rejected,
)


def _values(bandit: Bandit) -> tuple[np.ndarray, ...]:
    return tuple(predict_posterior(bandit))


def _constant_contexts(n: int) -> np.ndarray:
    x = np.zeros((n, WIDTH))
    x[:, 0] = 1.0
    return x
