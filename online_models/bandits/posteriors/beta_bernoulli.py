"""Reward rate of each arm without a context: Beta posteriors over discounted counts."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.posteriors.discounted_arms import DiscountedArms
from online_models.bandits.posteriors.discounting import (
    CHANGED_AT,
    MAX_TS,
    NEVER_CHANGED,
    Discounting,
    advance_clock,
    change_detected,
    discount_weight,
    unpack_rates,
)
from online_models.bandits.protocols import Posterior, Prior, RewardBatch, are_valid_rows, check_rows
from online_models.state.tables import Column
from stream.jit import kernel

_MAX_WEIGHT = 1e6  # weight of a row
_HITS, _MISSES, _PRIOR_HITS, _PRIOR_MISSES = range(4)


@dataclass(frozen=True, slots=True)
class BetaSettings:
    """Prior of a new arm, as a rate and as a number of rewards, and the discounting."""

    mean: float = 0.05
    strength: float = 4.0
    discounting: Discounting = field(default_factory=Discounting)

    def __post_init__(self) -> None:
        if not 0 < self.mean < 1:
            raise ValueError(f"mean must be between 0 and 1, got {self.mean}")
        if not 0 < self.strength < math.inf:
            raise ValueError(f"strength must be a positive number of rewards, got {self.strength}")


@kernel
def _compute_moments(counts: np.ndarray) -> tuple[float, float]:
    hits, misses = counts[_HITS] + counts[_PRIOR_HITS], counts[_MISSES] + counts[_PRIOR_MISSES]
    total = hits + misses
    return hits / total, np.sqrt(hits * misses / (total + 1.0)) / total


@kernel
def _learn(
    counts: np.ndarray,
    monitor: np.ndarray,
    stamp: np.ndarray,
    n_rows: int,
    arms: np.ndarray,
    reward: np.ndarray,
    weight: np.ndarray,
    ts: np.ndarray,
    rate_array: np.ndarray,
) -> tuple[int, int, bool]:
    """Train on rows in order; return skipped rows, alarms, and True if all arms were discounted."""
    rates = unpack_rates(rate_array)
    skipped, alarms, is_discounted = 0, 0, False
    for i in range(arms.size):
        arm = arms[i]
        if arm < 0:
            continue
        if arm >= n_rows or not (0.0 <= reward[i] <= 1.0 and 0.0 <= weight[i] <= _MAX_WEIGHT and 0 <= ts[i] <= MAX_TS):
            skipped += 1
            continue
        discount = advance_clock(stamp, ts[i], rates)
        if discount < 1.0:
            is_discounted = True
            counts[:n_rows, :_PRIOR_HITS] *= discount
        mean, std = _compute_moments(counts[arm])
        if change_detected(monitor[arm], mean, std, reward[i], ts[i], rates):
            alarms += 1
            counts[arm, :_PRIOR_HITS] *= rates.retained_ratio
        w = discount_weight(stamp, ts[i], monitor[arm, CHANGED_AT], weight[i], rates)
        counts[arm, _HITS] += w * reward[i]
        counts[arm, _MISSES] += w * (1.0 - reward[i])
    return skipped, alarms, is_discounted


@kernel
def _compute_posterior(counts: np.ndarray, n_rows: int, arms: np.ndarray) -> np.ndarray:
    """Means and standard deviations, (2, n); (2, 0) if some arm is not a row in use."""
    if not are_valid_rows(arms, n_rows):
        return np.empty((2, 0))
    moments = np.empty((2, arms.size))
    for i in range(arms.size):
        moments[0, i], moments[1, i] = _compute_moments(counts[arms[i]])
    return moments


class BetaBernoulli(DiscountedArms):
    """Beta–Bernoulli model of reward rates (Chapelle and Li 2011, Algorithm 2), discounted.

    A reward r between 0 and 1 counts as r hits and 1 - r misses.

    >>> bandit = BetaBernoulli(BetaSettings(mean=0.5, strength=2.0))
    >>> arms = bandit.add_arms(np.array([7], np.uint64))
    >>> bandit.learn(RewardBatch(arms, np.zeros((1, 0)), np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.posterior(arms, np.zeros((1, 0))).means.round(3).tolist()
    [0.667]
    """

    def __init__(self, settings: BetaSettings = BetaSettings()) -> None:
        super().__init__({"counts": Column("float64", (4,)), "monitor": Column("float64", (3,))}, settings.discounting)
        self.settings = settings

    @property
    def width(self) -> int:
        return 0

    def add_arms(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        rows = self._arms.add_keys(keys)
        new = self._arms["counts"][rows, _PRIOR_HITS] == 0
        means, strength = self._prior_parameters(prior, rows.size)
        self._arms["counts"][rows[new], _PRIOR_HITS] = (means * strength)[new]
        self._arms["counts"][rows[new], _PRIOR_MISSES] = ((1 - means) * strength)[new]
        self._arms["monitor"][rows[new], CHANGED_AT] = NEVER_CHANGED
        return rows

    def _prior_parameters(self, prior: Prior | None, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Means of the prior Betas and their strengths in rewards."""
        if prior is None:
            return np.full(n, self.settings.mean), np.full(n, self.settings.strength)
        means = np.clip(prior.means, 1e-4, 1 - 1e-4)
        return means, np.clip(means * (1 - means) / prior.stds**2 - 1, 1e-2, _MAX_WEIGHT)

    def _learn_rows(self, rewards: RewardBatch) -> tuple[int, int, bool]:
        table = self._arms
        return _learn(
            table["counts"], table["monitor"], self._stamp, len(table),
            rewards.arms, rewards.reward, rewards.weight, rewards.ts, self._rates,
        )  # fmt: skip

    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        """Posterior of n arms, the same in all contexts."""
        moments = _compute_posterior(self._arms["counts"], len(self._arms), arms)
        check_rows(moments, arms, len(self._arms))
        return Posterior(moments[0], moments[1])
