"""A linear model of the reward for each arm: the posterior of disjoint LinUCB and of linear Thompson sampling."""

import numpy as np

from online_models.bandits.posteriors.discounting import MOVED, is_refuted, kept_until, weight_at
from online_models.bandits.posteriors.linear_arms import (
    AFRESH,
    RIDGE,
    UPDATES,
    LinearArms,
    LinearSettings,
    is_sound,
    solve_arm,
    take_context,
)
from online_models.bandits.posteriors.packed_matrix import add_outer, dot, pairs_of, times
from online_models.bandits.protocols import Judged, Rewards, are_rows, demand_rows, demand_width
from stream.jit import kernel


@kernel
def _learn(
    posterior: np.ndarray,
    sums: np.ndarray,
    watch: np.ndarray,
    stamp: np.ndarray,
    used: int,
    arms: np.ndarray,
    x: np.ndarray,
    reward: np.ndarray,
    weight: np.ndarray,
    ts: np.ndarray,
    noise: float,
    rates: np.ndarray,
) -> tuple[int, int, bool]:
    """Rows refused, arms refuted, and whether all arms faded."""
    width = x.shape[1]
    v = np.empty(width)
    skipped, alarms, faded = 0, 0, False
    for i in range(arms.size):
        at = arms[i]
        if at < 0:
            continue
        if at >= used or not is_sound(x[i], reward[i], weight[i], ts[i]):
            skipped += 1
            continue
        kept = kept_until(stamp, ts[i], rates)
        if kept < 1.0:
            faded = True
            for row in range(used):
                if watch[row, RIDGE] > 0.0:
                    sums[row] *= kept
                    solve_arm(posterior[row], sums[row], watch[row], width)
        own, theta, inverse = posterior[at], posterior[at, 1 : 1 + width], posterior[at, 1 + width :]
        times(inverse, x[i], v)
        length = dot(v, x[i])
        wrong = reward[i] - own[0] - dot(theta, x[i])
        if is_refuted(watch[at], reward[i] - wrong, noise * np.sqrt(max(length, 0.0)), reward[i], ts[i], rates):
            alarms += 1
            sums[at] *= rates[3]
            solve_arm(own, sums[at], watch[at], width)
            times(inverse, x[i], v)
            length = dot(v, x[i])
            wrong = reward[i] - own[0] - dot(theta, x[i])
        w = weight_at(stamp, ts[i], watch[at, MOVED], weight[i], rates)
        gain = w / (1.0 + w * length)
        for j in range(width):
            sums[at, j] += w * x[i, j] * (reward[i] - own[0])
            theta[j] += gain * wrong * v[j]
        add_outer(sums[at, width:], w, x[i])
        add_outer(inverse, -gain, v)
        watch[at, UPDATES] += 1.0
        if watch[at, UPDATES] >= AFRESH:
            solve_arm(own, sums[at], watch[at], width)
    return skipped, alarms, faded


@kernel
def _judge(posterior: np.ndarray, used: int, arms: np.ndarray, contexts: np.ndarray, noise: float) -> np.ndarray:
    """Means and spreads, (2, n); nothing at all if some arm is not a row in use."""
    if not are_rows(arms, used):
        return np.empty((2, 0))
    width = contexts.shape[1]
    x, pairs = np.empty(width), np.empty(posterior.shape[1] - 1 - width)
    judged = np.empty((2, arms.size))
    for i in range(arms.size):
        if take_context(contexts, i, x):
            pairs_of(x, pairs)
        own = posterior[arms[i]]
        judged[0, i] = own[0] + dot(own[1 : 1 + width], x)
        judged[1, i] = noise * np.sqrt(max(dot(own[1 + width :], pairs), 0.0))
    return judged


class Disjoint(LinearArms):
    """Bayesian linear regression of the reward per arm, with rank-1 updates; its past fades.

    Li et al., "A Contextual-Bandit Approach to Personalized News Article Recommendation" (WWW 2010), Algorithm 1:
    with noise 1 the means are θᵀx and the spreads √(xᵀA⁻¹x). Sums are kept beside the inverse: they fade as a whole
    (Russac, Vernade and Cappé 2019, with a ridge that stays), and do not depend on the order in which rewards come.

    >>> bandit = Disjoint(2)
    >>> arms = bandit.admit(np.array([7, 9], np.uint64))
    >>> x = np.array([[1.0, 0.0]])
    >>> bandit.learn(Rewards(arms[:1], x, np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.judge(arms, x).means.tolist()
    [0.5, 0.0]
    """

    def __init__(self, width: int, settings: LinearSettings | None = None) -> None:
        """`width` numbers of a context; let the first be 1 if an arm is to have a mean of its own."""
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.settings = settings or LinearSettings()
        super().__init__(width, (0, 0), self.settings)

    @property
    def width(self) -> int:
        return self._own

    def learn(self, rewards: Rewards) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        table = self._arms
        demand_width(rewards.contexts, len(rewards), self._own)
        done = _learn(
            table["posterior"], table["sums"], table["watch"], self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self.settings.noise, self._rates,
        )  # fmt: skip
        self._note(*done, rewards.arms)

    def judge(self, arms: np.ndarray, contexts: np.ndarray) -> Judged:
        """What is thought of n arms; contexts are (n, d), or (1, d) if all arms are in the same."""
        demand_width(contexts, arms.size, self._own)
        judged = _judge(self._arms["posterior"], len(self._arms), arms, contexts, self.settings.noise)
        demand_rows(judged, arms, len(self._arms))
        return Judged(judged[0], judged[1])
