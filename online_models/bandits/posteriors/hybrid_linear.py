"""Linear models of the reward, one per arm and one shared, as in hybrid LinUCB."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.posteriors.discounting import (
    CHANGED_AT,
    advance_clock,
    change_detected,
    discount_weight,
    unpack_rates,
)
from online_models.bandits.posteriors.hybrid_kernels import (
    ContextProducts,
    HybridModel,
    add_row,
    predict_row,
    shared_offsets,
    solve_all,
    solve_cross,
    solve_shared,
)
from online_models.bandits.posteriors.linear_arms import (
    REFRESH_EVERY,
    UPDATES,
    LinearArms,
    LinearArmSettings,
    check_positive,
    is_valid,
    load_context,
    solve_arm,
)
from online_models.bandits.posteriors.packed_matrix import (
    dot,
    pack_pairs,
    packed_size,
    quadratic,
    subtract_product,
    unpack,
)
from online_models.bandits.protocols import (
    Posterior,
    RewardBatch,
    are_valid_rows,
    check_rows,
    check_width,
)
from online_models.state.tables import State
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class HybridSettings(LinearArmSettings):
    """Settings of arms and shared model; the latter's prior std is noise / √shared_ridge."""

    shared_ridge: float = 1.0

    def __post_init__(self) -> None:
        LinearArmSettings.__post_init__(self)  # super() does not work: slots replace the class
        check_positive(shared_ridge=self.shared_ridge)


@kernel
def _learn(
    posterior: np.ndarray,
    sums: np.ndarray,
    monitor: np.ndarray,
    shared: np.ndarray,
    stamp: np.ndarray,
    n_rows: int,
    arms: np.ndarray,
    x: np.ndarray,
    reward: np.ndarray,
    weight: np.ndarray,
    ts: np.ndarray,
    d: int,
    ridge: float,
    noise: float,
    rate_array: np.ndarray,
) -> tuple[int, int, bool]:
    """Train on rows in order; return skipped rows, alarms, and True if all arms were discounted."""
    k, rates = x.shape[1] - d, unpack_rates(rate_array)
    model = HybridModel(posterior, sums, monitor, shared, n_rows, d, k, ridge)
    products = ContextProducts(np.empty(d), np.empty(k), np.empty(k))
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
            sums[:n_rows] *= discount
            solve_all(model)
        base = posterior[arm, 0]
        mean, variance = predict_row(posterior[arm], shared, x[i], d, products)
        if change_detected(monitor[arm], base + mean, noise * np.sqrt(variance), reward[i], ts[i], rates):
            alarms += 1
            sums[arm] *= rates.retained_ratio
            solve_all(model)
            is_discounted = True
            predict_row(posterior[arm], shared, x[i], d, products)
        w = discount_weight(stamp, ts[i], monitor[arm, CHANGED_AT], weight[i], rates)
        add_row(posterior[arm], sums[arm], shared, x[i], reward[i] - base, w, d, products)
        monitor[arm, UPDATES] += 1.0
        if monitor[arm, UPDATES] >= REFRESH_EVERY:
            solve_arm(posterior[arm], sums[arm], monitor[arm], d)
            solve_cross(posterior[arm], sums[arm], d, k)
            solve_shared(shared, k, ridge)
    return skipped, alarms, is_discounted


@kernel
def _compute_posterior(
    posterior: np.ndarray, shared: np.ndarray, n_rows: int, arms: np.ndarray, contexts: np.ndarray, d: int, noise: float
) -> np.ndarray:
    """Means and standard deviations, (2, n); (2, 0) if some arm is not a row in use."""
    if not are_valid_rows(arms, n_rows):
        return np.empty((2, 0))
    k = contexts.shape[1] - d
    first = d + d * (d + 1) // 2
    inverse, b0, _ = shared_offsets(k)
    x, pairs, u, full_inverse = np.empty(d + k), np.empty(first - d), np.empty(k), np.empty((k, k))
    unpack(shared[inverse:b0], full_inverse)
    moments = np.empty((2, arms.size))
    for i in range(arms.size):
        if load_context(contexts, i, x):
            pack_pairs(x[:d], pairs)
        arm_posterior = posterior[arms[i]]  # read from start to end, so that the processor prefetches
        mean = arm_posterior[0] + dot(arm_posterior[1 : 1 + d], x[:d])
        variance = dot(arm_posterior[1 + d : 1 + first], pairs)
        u[:] = x[d:]
        subtract_product(arm_posterior[1 + first :], x[:d], u)
        moments[0, i] = mean + dot(u, shared[:k])
        moments[1, i] = noise * np.sqrt(max(variance + quadratic(full_inverse, u), 0.0))
    return moments


class HybridLinear(LinearArms):
    """Bayesian linear regression per arm plus shared weights, which serve a new arm at once.

    Li et al. 2010, Algorithm 2: with noise 1 its means and standard deviations are those of the paper's p and s. Each
    row changes both inverses by rank 1: the shared precision grows by u uᵀ / (1 + xᵀA⁻¹x), u = z - BᵀA⁻¹x.
    The sums of every arm are kept, so that discounting, or dropping, an arm's history is exact.

    >>> bandit = HybridLinear(1, 1)
    >>> arms = bandit.add_arms(np.array([7, 9], np.uint64))
    >>> x = np.array([[1.0, 1.0]])
    >>> bandit.learn(RewardBatch(arms[:1], x, np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.posterior(arms, x).means.round(3).tolist()
    [0.667, 0.333]
    """

    def __init__(self, arm_width: int, shared_width: int, settings: HybridSettings = HybridSettings()) -> None:
        """A context is `arm_width` numbers x for the arm, then `shared_width` numbers z for all."""
        if arm_width < 1 or shared_width < 1:
            raise ValueError(f"arm_width and shared_width must be at least 1, got {arm_width} and {shared_width}")
        cross = arm_width * shared_width
        super().__init__(arm_width, (cross, cross + shared_width + packed_size(shared_width)), settings)
        self.settings = settings
        self._shared_width = shared_width
        self._shared = np.zeros(2 * (shared_width + packed_size(shared_width)))
        solve_shared(self._shared, shared_width, settings.shared_ridge)

    @property
    def width(self) -> int:
        return self._arm_width + self._shared_width

    def remove_arms(self, arms: np.ndarray) -> None:
        """Forget distinct arms; their part in the shared model goes with the next discounting."""
        super().remove_arms(arms)

    def _learn_rows(self, rewards: RewardBatch) -> tuple[int, int, bool]:
        check_width(rewards.contexts, len(rewards), self.width)
        table = self._arms
        return _learn(
            table["posterior"], table["sums"], table["monitor"], self._shared, self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self._arm_width, self.settings.shared_ridge, self.settings.noise, self._rates,
        )  # fmt: skip

    def posterior(self, arms: np.ndarray, contexts: np.ndarray) -> Posterior:
        check_width(contexts, arms.size, self.width)
        noise = self.settings.noise
        moments = _compute_posterior(
            self._arms["posterior"], self._shared, len(self._arms), arms, contexts, self._arm_width, noise
        )
        check_rows(moments, arms, len(self._arms))
        return Posterior(moments[0], moments[1])

    def state(self) -> State:
        return super().state() | {"shared": self._shared}

    def restore(self, state: State) -> None:
        super().restore(state)
        self._shared = state["shared"].copy()

    def changes(self) -> State:
        return super().changes() | {"shared": self._shared.copy()}

    def apply(self, changes: State) -> None:
        super().apply(changes)
        self._shared = changes["shared"].copy()
