"""A linear model of the reward for each arm, and one that all arms share: the posterior of hybrid LinUCB."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.posteriors.discounting import MOVED, is_refuted, kept_until, weight_at
from online_models.bandits.posteriors.hybrid_kernels import (
    add_row,
    look,
    parts_of_shared,
    solve_all,
    solve_cross,
    solve_shared,
)
from online_models.bandits.posteriors.linear_arms import (
    AFRESH,
    UPDATES,
    LinearArms,
    LinearSettings,
    demand_positive,
    is_sound,
    solve_arm,
    take_context,
)
from online_models.bandits.posteriors.packed_matrix import dot, packed_size, pairs_of, quadratic, take_away, unpack
from online_models.bandits.protocols import Judged, Rewards, are_rows, demand_rows, demand_width
from online_models.state.tables import State
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class HybridSettings(LinearSettings):
    """`noise` / √`shared_ridge` is how unsure one is, besides, of what all arms share."""

    shared_ridge: float = 1.0

    def __post_init__(self) -> None:
        LinearSettings.__post_init__(self)  # a class with slots is made anew, and super() would not find it
        demand_positive(shared_ridge=self.shared_ridge)


@kernel
def _learn(
    posterior: np.ndarray,
    sums: np.ndarray,
    watch: np.ndarray,
    shared: np.ndarray,
    stamp: np.ndarray,
    used: int,
    arms: np.ndarray,
    x: np.ndarray,
    reward: np.ndarray,
    weight: np.ndarray,
    ts: np.ndarray,
    d: int,
    ridge: float,
    noise: float,
    rates: np.ndarray,
) -> tuple[int, int, bool]:
    """Rows refused, arms refuted, and whether all arms faded."""
    k = x.shape[1] - d
    v, u, u0 = np.empty(d), np.empty(k), np.empty(k)
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
            sums[:used] *= kept
            solve_all(posterior, sums, watch, shared, used, d, k, ridge)
        base = posterior[at, 0]
        mean, variance = look(posterior[at], shared, x[i], d, v, u, u0)
        if is_refuted(watch[at], base + mean, noise * np.sqrt(variance), reward[i], ts[i], rates):
            alarms += 1
            sums[at] *= rates[3]
            solve_all(posterior, sums, watch, shared, used, d, k, ridge)
            faded = True
            look(posterior[at], shared, x[i], d, v, u, u0)
        w = weight_at(stamp, ts[i], watch[at, MOVED], weight[i], rates)
        add_row(posterior[at], sums[at], shared, x[i], reward[i] - base, w, d, v, u, u0)
        watch[at, UPDATES] += 1.0
        if watch[at, UPDATES] >= AFRESH:
            solve_arm(posterior[at], sums[at], watch[at], d)
            solve_cross(posterior[at], sums[at], d, k)
            solve_shared(shared, k, ridge)
    return skipped, alarms, faded


@kernel
def _judge(
    posterior: np.ndarray, shared: np.ndarray, used: int, arms: np.ndarray, contexts: np.ndarray, d: int, noise: float
) -> np.ndarray:
    """Means and spreads, (2, n); nothing at all if some arm is not a row in use."""
    if not are_rows(arms, used):
        return np.empty((2, 0))
    k = contexts.shape[1] - d
    first = d + d * (d + 1) // 2
    inverse, b0, _ = parts_of_shared(k)
    x, pairs, u, square = np.empty(d + k), np.empty(first - d), np.empty(k), np.empty((k, k))
    unpack(shared[inverse:b0], square)
    judged = np.empty((2, arms.size))
    for i in range(arms.size):
        if take_context(contexts, i, x):
            pairs_of(x[:d], pairs)
        own = posterior[arms[i]]  # read from its beginning to its end, so that the processor fetches ahead
        mean = own[0] + dot(own[1 : 1 + d], x[:d])
        variance = dot(own[1 + d : 1 + first], pairs)
        u[:] = x[d:]
        take_away(own[1 + first :], x[:d], u)
        judged[0, i] = mean + dot(u, shared[:k])
        judged[1, i] = noise * np.sqrt(max(variance + quadratic(square, u), 0.0))
    return judged


class Hybrid(LinearArms):
    """What all arms share is learnt from all of them, so that a new arm is not a stranger.

    Li et al. 2010, Algorithm 2, as Bayesian regression: with noise 1 its means and spreads are those of lines 11 to
    13. Each row changes both inverses by rank 1: the shared precision grows by u uᵀ / (1 + xᵀA⁻¹x), u = z - BᵀA⁻¹x.
    The sums of every arm are kept, so that the past fades, or is dropped, as exactly as if it had never been.

    >>> bandit = Hybrid(1, 1)
    >>> arms = bandit.admit(np.array([7, 9], np.uint64))
    >>> x = np.array([[1.0, 1.0]])
    >>> bandit.learn(Rewards(arms[:1], x, np.ones(1), np.ones(1), np.zeros(1, np.int64)))
    >>> bandit.judge(arms, x).means.round(3).tolist()
    [0.667, 0.333]
    """

    def __init__(self, own: int, shared: int, settings: HybridSettings = HybridSettings()) -> None:
        """A context is `own` numbers for the model of the arm, x, and then `shared` ones for that of all arms, z."""
        if own < 1 or shared < 1:
            raise ValueError(f"own and shared must be at least 1, got {own} and {shared}")
        cross = own * shared  # A⁻¹B behind the posterior; B, Σzr and Σzzᵀ behind the sums
        super().__init__(own, (cross, cross + shared + packed_size(shared)), settings)
        self.settings = settings
        self._width = own + shared
        self._shared = np.zeros(2 * (shared + packed_size(shared)))  # β, A0⁻¹, b0, A0, without ridges
        solve_shared(self._shared, shared, settings.shared_ridge)

    @property
    def width(self) -> int:
        return self._width

    def retire(self, arms: np.ndarray) -> None:
        """Forget distinct arms; what they taught the shared model goes when the past next fades."""
        super().retire(arms)

    def learn(self, rewards: Rewards) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        table = self._arms
        demand_width(rewards.contexts, len(rewards), self._width)
        done = _learn(
            table["posterior"], table["sums"], table["watch"], self._shared, self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self._own, self.settings.shared_ridge, self.settings.noise, self._rates,
        )  # fmt: skip
        self._note(*done, rewards.arms)

    def judge(self, arms: np.ndarray, contexts: np.ndarray) -> Judged:
        """What is thought of n arms; contexts are (n, own + shared), or one row if all arms are in the same."""
        demand_width(contexts, arms.size, self._width)
        noise = self.settings.noise
        judged = _judge(self._arms["posterior"], self._shared, len(self._arms), arms, contexts, self._own, noise)
        demand_rows(judged, arms, len(self._arms))
        return Judged(judged[0], judged[1])

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
