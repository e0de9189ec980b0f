"""Linear model of the reward per arm, as in disjoint LinUCB and linear Thompson sampling."""

import numpy as np

from online_models.bandits.posteriors.discounting import (
    CHANGED_AT,
    advance_clock,
    change_detected,
    discount_weight,
    unpack_rates,
)
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
from online_models.bandits.protocols import (
    Posterior,
    RewardBatch,
    are_valid_rows,
    check_rows,
    check_width,
)
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
    rate_array: np.ndarray,
) -> tuple[int, int, bool]:
    """Train on rows in order; return skipped rows, alarms, and True if all arms were discounted."""
    rates = unpack_rates(rate_array)
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
        std = noise * np.sqrt(max(variance, 0.0))
        if change_detected(monitor[arm], reward[i] - residual, std, reward[i], ts[i], rates):
            alarms += 1
            sums[arm] *= rates.retained_ratio
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
    """Means and standard deviations, (2, n); (2, 0) if some arm is not a row in use."""
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
    """Discounted Bayesian linear regression of the reward per arm, by updates of rank 1.

    Li et al., "A Contextual-Bandit Approach to Personalized News Article Recommendation" (WWW 2010), Algorithm 1:
    with noise 1 the means are θᵀx and the standard deviations √(xᵀA⁻¹x). The sums are kept beside the inverse, so that
    all of them can be discounted (Russac, Vernade and Cappé 2019, but with an undiscounted ridge) and the order of
    the rewards does not matter.

    >>> bandit = DisjointLinear(2)
    >>> arms = bandit.add_arms(np.array([7, 9], np.uint64))
    >>> x = np.array([[1.0, 0.0]])
    >>> bandit.learn(RewardBatch(arms[:1], x, np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.posterior(arms, x).means.tolist()
    [0.5, 0.0]
    """

    def __init__(self, width: int, settings: LinearArmSettings | None = None) -> None:
        """`width`: numbers per context; a first number that is always 1 gives each arm an intercept."""
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.settings = settings or LinearArmSettings()
        super().__init__(width, (0, 0), self.settings)

    @property
    def width(self) -> int:
        return self._arm_width

    def _learn_rows(self, rewards: RewardBatch) -> tuple[int, int, bool]:
        check_width(rewards.contexts, len(rewards), self._arm_width)
        table = self._arms
        return _learn(
            table["posterior"], table["sums"], table["monitor"], self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self.settings.noise, self._rates,
        )  # fmt: skip

    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        check_width(contexts, arms.size, self._arm_width)
        moments = _compute_posterior(self._arms["posterior"], len(self._arms), arms, contexts, self.settings.noise)
        check_rows(moments, arms, len(self._arms))
        return Posterior(moments[0], moments[1])
