"""A linear model of the reward for each arm: the posterior of disjoint LinUCB and of linear Thompson sampling."""

import numpy as np

from online_models.bandits.posteriors.discounting import CHANGED_AT, advance_clock, change_detected, discount_weight
from online_models.bandits.posteriors.linear_arms import (
    REFRESH_EVERY,
    RIDGE,
    UPDATES,
    LinearArms,
    LinearArmSettings,
    is_valid,
    load_context,
    solve_arm,
)
from online_models.bandits.posteriors.packed_matrix import add_outer, dot, matvec, pack_pairs
from online_models.bandits.protocols import Posterior, RewardBatch, are_valid_rows, check_rows, check_width
from stream.jit import kernel


@kernel
def _learn(
    posterior: np.ndarray,
    sums: np.ndarray,
    monitor: np.ndarray,
    stamp: np.ndarray,
    n_rows: int,
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
    skipped, alarms, is_discounted = 0, 0, False
    for i in range(arms.size):
        arm = arms[i]
        if arm < 0:
            continue
        if arm >= n_rows or not is_valid(x[i], reward[i], weight[i], ts[i]):
            skipped += 1
            continue
        discount = advance_clock(stamp, ts[i], rates)
        if discount < 1.0:
            is_discounted = True
            for row in range(n_rows):
                if monitor[row, RIDGE] > 0.0:
                    sums[row] *= discount
                    solve_arm(posterior[row], sums[row], monitor[row], width)
        arm_posterior, theta, inverse = posterior[arm], posterior[arm, 1 : 1 + width], posterior[arm, 1 + width :]
        matvec(inverse, x[i], v)
        variance = dot(v, x[i])
        residual = reward[i] - arm_posterior[0] - dot(theta, x[i])
        if change_detected(
            monitor[arm], reward[i] - residual, noise * np.sqrt(max(variance, 0.0)), reward[i], ts[i], rates
        ):
            alarms += 1
            sums[arm] *= rates[3]
            solve_arm(arm_posterior, sums[arm], monitor[arm], width)
            matvec(inverse, x[i], v)
            variance = dot(v, x[i])
            residual = reward[i] - arm_posterior[0] - dot(theta, x[i])
        w = discount_weight(stamp, ts[i], monitor[arm, CHANGED_AT], weight[i], rates)
        gain = w / (1.0 + w * variance)
        for j in range(width):
            sums[arm, j] += w * x[i, j] * (reward[i] - arm_posterior[0])
            theta[j] += gain * residual * v[j]
        add_outer(sums[arm, width:], w, x[i])
        add_outer(inverse, -gain, v)
        monitor[arm, UPDATES] += 1.0
        if monitor[arm, UPDATES] >= REFRESH_EVERY:
            solve_arm(arm_posterior, sums[arm], monitor[arm], width)
    return skipped, alarms, is_discounted


@kernel
def _compute_posterior(
    posterior: np.ndarray, n_rows: int, arms: np.ndarray, contexts: np.ndarray, noise: float
) -> np.ndarray:
    """Means and spreads, (2, n); nothing at all if some arm is not a row in use."""
    if not are_valid_rows(arms, n_rows):
        return np.empty((2, 0))
    width = contexts.shape[1]
    x, pairs = np.empty(width), np.empty(posterior.shape[1] - 1 - width)
    moments = np.empty((2, arms.size))
    for i in range(arms.size):
        if load_context(contexts, i, x):
            pack_pairs(x, pairs)
        arm_posterior = posterior[arms[i]]
        moments[0, i] = arm_posterior[0] + dot(arm_posterior[1 : 1 + width], x)
        moments[1, i] = noise * np.sqrt(max(dot(arm_posterior[1 + width :], pairs), 0.0))
    return moments


class DisjointLinear(LinearArms):
    """Bayesian linear regression of the reward per arm, with rank-1 updates; its past fades.

    Li et al., "A Contextual-Bandit Approach to Personalized News Article Recommendation" (WWW 2010), Algorithm 1:
    with noise 1 the means are θᵀx and the spreads √(xᵀA⁻¹x). Sums are kept beside the inverse: they fade as a whole
    (Russac, Vernade and Cappé 2019, with a ridge that stays), and do not depend on the order in which rewards come.

    >>> bandit = DisjointLinear(2)
    >>> arms = bandit.add_arms(np.array([7, 9], np.uint64))
    >>> x = np.array([[1.0, 0.0]])
    >>> bandit.learn(RewardBatch(arms[:1], x, np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.posterior(arms, x).means.tolist()
    [0.5, 0.0]
    """

    def __init__(self, width: int, settings: LinearArmSettings | None = None) -> None:
        """`width` numbers of a context; let the first be 1 if an arm is to have a mean of its own."""
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.settings = settings or LinearArmSettings()
        super().__init__(width, (0, 0), self.settings)

    @property
    def width(self) -> int:
        return self._arm_width

    def learn(self, rewards: RewardBatch) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        table = self._arms
        check_width(rewards.contexts, len(rewards), self._arm_width)
        outcome = _learn(
            table["posterior"], table["sums"], table["monitor"], self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self.settings.noise, self._rates,
        )  # fmt: skip
        self._record_batch(*outcome, rewards.arms)

    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        """What is thought of n arms; contexts are (n, d), or (1, d) if all arms are in the same."""
        check_width(contexts, arms.size, self._arm_width)
        moments = _compute_posterior(self._arms["posterior"], len(self._arms), arms, contexts, self.settings.noise)
        check_rows(moments, arms, len(self._arms))
        return Posterior(moments[0], moments[1])
