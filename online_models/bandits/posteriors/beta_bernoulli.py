"""A reward rate for each arm, whatever the context: Beta posteriors over counts that fade."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.posteriors.discounted_arms import FadingArms
from online_models.bandits.posteriors.discounting import (
    LAST_TS,
    MOVED,
    NOT_MOVED,
    Fading,
    is_refuted,
    kept_until,
    weight_at,
)
from online_models.bandits.protocols import Judged, Prior, Rewards, are_rows, demand_rows
from online_models.state.tables import Column
from stream.jit import kernel

_HEAVIEST = 1e6  # weight of a row
_HITS, _MISSES, _PRIOR_HITS, _PRIOR_MISSES = range(4)


@dataclass(frozen=True, slots=True)
class BetaSettings:
    """What is thought of an arm that nobody tried, as a rate and as rows seen of it."""

    mean: float = 0.05
    strength: float = 4.0
    fading: Fading = field(default_factory=Fading)

    def __post_init__(self) -> None:
        if not 0 < self.mean < 1:
            raise ValueError(f"mean must be between 0 and 1, got {self.mean}")
        if not 0 < self.strength < math.inf:
            raise ValueError(f"strength must be a positive number of rows, got {self.strength}")


@kernel
def _judge_one(counts: np.ndarray) -> tuple[float, float]:
    hits, misses = counts[_HITS] + counts[_PRIOR_HITS], counts[_MISSES] + counts[_PRIOR_MISSES]
    total = hits + misses
    return hits / total, np.sqrt(hits * misses / (total + 1.0)) / total


@kernel
def _learn(
    counts: np.ndarray,
    watch: np.ndarray,
    stamp: np.ndarray,
    used: int,
    arms: np.ndarray,
    reward: np.ndarray,
    weight: np.ndarray,
    ts: np.ndarray,
    rates: np.ndarray,
) -> tuple[int, int, bool]:
    """Rows refused, arms refuted, and whether all arms faded."""
    skipped, alarms, faded = 0, 0, False
    for i in range(arms.size):
        at = arms[i]
        if at < 0:
            continue
        if at >= used or not (0.0 <= reward[i] <= 1.0 and 0.0 <= weight[i] <= _HEAVIEST and 0 <= ts[i] <= LAST_TS):
            skipped += 1
            continue
        kept = kept_until(stamp, ts[i], rates)
        if kept < 1.0:
            faded = True
            counts[:used, :_PRIOR_HITS] *= kept
        mean, spread = _judge_one(counts[at])
        if is_refuted(watch[at], mean, spread, reward[i], ts[i], rates):
            alarms += 1
            counts[at, :_PRIOR_HITS] *= rates[3]
        w = weight_at(stamp, ts[i], watch[at, MOVED], weight[i], rates)
        counts[at, _HITS] += w * reward[i]
        counts[at, _MISSES] += w * (1.0 - reward[i])
    return skipped, alarms, faded


@kernel
def _judge(counts: np.ndarray, used: int, arms: np.ndarray) -> np.ndarray:
    """Means and spreads, (2, n); nothing at all if some arm is not a row in use."""
    if not are_rows(arms, used):
        return np.empty((2, 0))
    judged = np.empty((2, arms.size))
    for i in range(arms.size):
        judged[0, i], judged[1, i] = _judge_one(counts[arms[i]])
    return judged


class Beta(FadingArms):
    """Beta–Bernoulli: what Thompson sampling over click rates needs. A reward between 0 and 1 counts in part.

    >>> bandit = Beta(BetaSettings(mean=0.5, strength=2.0))
    >>> arms = bandit.admit(np.array([7], np.uint64))
    >>> bandit.learn(Rewards(arms, np.zeros((1, 0)), np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.judge(arms, np.zeros((1, 0))).means.round(3).tolist()
    [0.667]
    """

    def __init__(self, settings: BetaSettings = BetaSettings()) -> None:
        super().__init__({"counts": Column("float64", (4,)), "watch": Column("float64", (3,))}, settings.fading)
        self.settings = settings

    @property
    def width(self) -> int:
        return 0

    def admit(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; arms that are new begin with their prior."""
        rows = self._arms.admit(keys)
        new = self._arms["counts"][rows, _PRIOR_HITS] == 0
        means, strength = self._betas(prior, rows.size)
        self._arms["counts"][rows[new], _PRIOR_HITS] = (means * strength)[new]
        self._arms["counts"][rows[new], _PRIOR_MISSES] = ((1 - means) * strength)[new]
        self._arms["watch"][rows[new], MOVED] = NOT_MOVED
        return rows

    def _betas(self, prior: Prior | None, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Means and rows' worth of the Betas with these means and spreads."""
        if prior is None:
            return np.full(n, self.settings.mean), np.full(n, self.settings.strength)
        means = np.clip(prior.means, 1e-4, 1 - 1e-4)
        return means, np.clip(means * (1 - means) / prior.spreads**2 - 1, 1e-2, _HEAVIEST)

    def learn(self, rewards: Rewards) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        table = self._arms
        done = _learn(
            table["counts"], table["watch"], self._stamp, len(table),
            rewards.arms, rewards.reward, rewards.weight, rewards.ts, self._rates,
        )  # fmt: skip
        self._note(*done, rewards.arms)

    def judge(self, arms: np.ndarray, contexts: np.ndarray) -> Judged:
        """What is thought of n arms, the same in all contexts."""
        judged = _judge(self._arms["counts"], len(self._arms), arms)
        demand_rows(judged, arms, len(self._arms))
        return Judged(judged[0], judged[1])
