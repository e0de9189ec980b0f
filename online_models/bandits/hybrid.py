"""A linear model of the reward for each arm, and one that all arms share: the posterior of hybrid LinUCB."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.arms import Judged, Prior, Rewards, are_rows, demand_rows, demand_width
from online_models.bandits.disjoint import AFRESH, RIDGE, UPDATES, begin_arms, is_short, is_sound, solve_arm
from online_models.bandits.fading import MOVED, NOT_BEGUN, Fading, is_refuted, kept_until, weight_at
from online_models.bandits.packed import add_outer, dot, invert, packed_size, pairs_of, times
from online_models.tables import Column, State, Table
from stream.compiled import kernel


@dataclass(frozen=True, slots=True)
class HybridSettings:
    """`noise` / √`ridge` is how unsure one is of an arm that nobody tried, in a context of length 1, and of all."""

    ridge: float = 1.0
    shared_ridge: float = 1.0
    noise: float = 0.5  # standard deviation of a reward around its mean; no more is possible from 0 to 1
    mean: float = 0.0  # of an arm that nobody tried
    fading: Fading = field(default_factory=Fading)

    def __post_init__(self) -> None:
        for name in ("ridge", "shared_ridge", "noise"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean must be from 0 to 1, got {self.mean}")


@kernel
def _parts(k: int) -> tuple[int, int, int]:
    """Where, behind β, the inverse, b0 and A0 of the shared model begin; all in one array."""
    size = k * (k + 1) // 2
    return k, k + size, 2 * k + size


@kernel
def _solve_shared(shared: np.ndarray, k: int, ridge: float) -> None:
    inverse, b, a = _parts(k)
    invert(shared[a:], ridge, shared[inverse:b])
    times(shared[inverse:b], shared[b:a], shared[:k])


@kernel
def _solve_cross(posterior: np.ndarray, sums: np.ndarray, d: int, k: int) -> None:
    """A⁻¹B of one arm, (d, k) row by row, from its A⁻¹ and B."""
    first = d + d * (d + 1) // 2
    cross, b = posterior[1 + first :].reshape(d, k), sums[first : first + d * k].reshape(d, k)
    column, solved = np.empty(d), np.empty(d)
    for j in range(k):
        column[:] = b[:, j]
        times(posterior[1 + d : 1 + first], column, solved)
        cross[:, j] = solved


@kernel
def _solve_all(
    posterior: np.ndarray,
    sums: np.ndarray,
    watch: np.ndarray,
    shared: np.ndarray,
    used: int,
    d: int,
    k: int,
    ridge: float,
) -> None:
    """Everything from the sums of the arms: A0 = I · ridge + Σ (Z - BᵀA⁻¹B), b0 = Σ (c - BᵀA⁻¹b)."""
    _, b0, a0 = _parts(k)
    first = d + d * (d + 1) // 2
    shared[:] = 0.0
    for row in range(used):
        if watch[row, RIDGE] == 0.0:
            continue
        solve_arm(posterior[row], sums[row], watch[row], d)
        _solve_cross(posterior[row], sums[row], d, k)
        cross, b = posterior[row, 1 + first :].reshape(d, k), sums[row, first : first + d * k].reshape(d, k)
        c, z, p = sums[row, first + d * k : first + d * k + k], sums[row, first + d * k + k :], 0
        for i in range(k):
            shared[b0 + i] += c[i]
            for m in range(d):
                shared[b0 + i] -= b[m, i] * posterior[row, 1 + m]
            for j in range(i + 1):
                total = z[p + j]
                for m in range(d):
                    total -= b[m, i] * cross[m, j]
                shared[a0 + p + j] += total
            p += i + 1
    _solve_shared(shared, k, ridge)


@kernel
def _add(
    posterior: np.ndarray,
    sums: np.ndarray,
    shared: np.ndarray,
    x: np.ndarray,
    reward: float,
    w: float,
    d: int,
    v: np.ndarray,
    u: np.ndarray,
    u0: np.ndarray,
) -> None:
    """One row into an arm and into the shared model, each inverse by a change of rank 1."""
    k = x.size - d
    inverse, b0, a0 = _parts(k)
    first = d + d * (d + 1) // 2
    own, z = x[:d], x[d:]
    gain = w / (1.0 + w * dot(v, own))
    wrong = reward - dot(posterior[1 : 1 + d], own)
    shared_gain = gain / (1.0 + gain * dot(u, u0))
    shared_wrong = wrong - dot(u, shared[:k])
    cross, b = posterior[1 + first :].reshape(d, k), sums[first : first + d * k].reshape(d, k)
    for i in range(d):
        sums[i] += w * own[i] * reward
        posterior[1 + i] += gain * wrong * v[i]
        for j in range(k):
            b[i, j] += w * own[i] * z[j]
            cross[i, j] += gain * v[i] * u[j]
    for j in range(k):
        sums[first + d * k + j] += w * z[j] * reward
        shared[b0 + j] += gain * wrong * u[j]
        shared[j] += shared_gain * shared_wrong * u0[j]
    add_outer(sums[d:], w, own)
    add_outer(posterior[1 + d :], -gain, v)
    add_outer(sums[first + d * k + k :], w, z)
    add_outer(shared[a0:], gain, u)
    add_outer(shared[inverse:], -shared_gain, u0)


@kernel
def _look(
    posterior: np.ndarray, shared: np.ndarray, x: np.ndarray, d: int, v: np.ndarray, u: np.ndarray, u0: np.ndarray
) -> tuple[float, float]:
    """Mean of what is above the prior mean, and variance in units of the noise; v = A⁻¹x, u = z - BᵀA⁻¹x, u0 = A0⁻¹u.

    Line 12 of Algorithm 2 with its four terms drawn together: xᵀA⁻¹x + uᵀA0⁻¹u.
    """
    k = x.size - d
    inverse, b0, _ = _parts(k)
    first = d + d * (d + 1) // 2
    cross = posterior[1 + first :].reshape(d, k)
    times(posterior[1 + d : 1 + first], x[:d], v)
    u[:] = x[d:]
    for i in range(d):
        for j in range(k):
            u[j] -= cross[i, j] * x[i]
    times(shared[inverse:b0], u, u0)
    mean = dot(posterior[1 : 1 + d], x[:d]) + dot(u, shared[:k])
    return mean, max(dot(v, x[:d]) + dot(u, u0), 0.0)


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
            _solve_all(posterior, sums, watch, shared, used, d, k, ridge)
        base = posterior[at, 0]
        mean, variance = _look(posterior[at], shared, x[i], d, v, u, u0)
        if is_refuted(watch[at], base + mean, noise * np.sqrt(variance), reward[i], ts[i], rates):
            alarms += 1
            sums[at] *= rates[3]
            _solve_all(posterior, sums, watch, shared, used, d, k, ridge)
            faded = True
            _look(posterior[at], shared, x[i], d, v, u, u0)
        w = weight_at(stamp, ts[i], watch[at, MOVED], weight[i], rates)
        _add(posterior[at], sums[at], shared, x[i], reward[i] - base, w, d, v, u, u0)
        watch[at, UPDATES] += 1.0
        if watch[at, UPDATES] >= AFRESH:
            solve_arm(posterior[at], sums[at], watch[at], d)
            _solve_cross(posterior[at], sums[at], d, k)
            _solve_shared(shared, k, ridge)
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
    inverse, b0, _ = _parts(k)
    x, pairs, u, shared_pairs = np.empty(d + k), np.empty(first - d), np.empty(k), np.empty(b0 - inverse)
    judged = np.empty((2, arms.size))
    for i in range(arms.size):
        if i == 0 or contexts.shape[0] > 1:
            x[:] = contexts[i]
            if not is_short(x, 1.0):
                x[:] = 0.0  # a context that is no number says nothing: all arms are what they were before
            pairs_of(x[:d], pairs)
        own = posterior[arms[i]]
        cross = own[1 + first :].reshape(d, k)
        u[:] = x[d:]
        for m in range(d):
            for j in range(k):
                u[j] -= cross[m, j] * x[m]
        pairs_of(u, shared_pairs)
        judged[0, i] = own[0] + dot(own[1 : 1 + d], x[:d]) + dot(u, shared[:k])
        variance = dot(own[1 + d : 1 + first], pairs) + dot(shared[inverse:b0], shared_pairs)
        judged[1, i] = noise * np.sqrt(max(variance, 0.0))
    return judged


class Hybrid:
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
        self.settings = settings
        self.skipped = self.alarms = 0
        self._own, self._width = own, own + shared
        self._rates = settings.fading.rates
        self._stamp = np.full(1, NOT_BEGUN)  # event time, ms, that all sums stand for
        first = own + packed_size(own) + own * shared
        self._arms = Table(
            {
                "posterior": Column("float64", (1 + first,)),  # prior mean, A⁻¹b, A⁻¹, A⁻¹B
                "sums": Column("float64", (first + shared + packed_size(shared),)),  # b, A, B, Σzr, Σzzᵀ
                "watch": Column("float64", (5,)),
            },
            capacity=64,
        )
        self._shared = np.zeros(2 * (shared + packed_size(shared)))  # β, A0⁻¹, b0, A0, without ridges
        _solve_shared(self._shared, shared, settings.shared_ridge)

    @property
    def width(self) -> int:
        return self._width

    def admit(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; arms that are new begin with their prior."""
        rows = self._arms.admit(keys)
        setting = self.settings
        means = np.full(rows.size, setting.mean) if prior is None else prior.means
        ridges = np.full(rows.size, setting.ridge) if prior is None else (setting.noise / prior.spreads) ** 2
        begin_arms(rows, means, ridges, self._own, self._arms["posterior"], self._arms["watch"])
        return rows

    def find(self, keys: np.ndarray) -> np.ndarray:
        return self._arms.find(keys)

    def retire(self, arms: np.ndarray) -> None:
        """Forget distinct arms; what they taught the shared model goes when the past next fades."""
        self._arms.free(arms)

    def learn(self, rewards: Rewards) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        table = self._arms
        demand_width(rewards.contexts, len(rewards), self._width)
        skipped, alarms, faded = _learn(
            table["posterior"], table["sums"], table["watch"], self._shared, self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self._own, self.settings.shared_ridge, self.settings.noise, self._rates,
        )  # fmt: skip
        table.touch(np.arange(len(table)) if faded else rewards.arms)
        self.skipped += skipped
        self.alarms += alarms

    def judge(self, arms: np.ndarray, contexts: np.ndarray) -> Judged:
        """What is thought of n arms; contexts are (n, own + shared), or one row if all arms are in the same."""
        demand_width(contexts, arms.size, self._width)
        noise = self.settings.noise
        judged = _judge(self._arms["posterior"], self._shared, len(self._arms), arms, contexts, self._own, noise)
        demand_rows(judged, arms, len(self._arms))
        return Judged(judged[0], judged[1])

    def state(self) -> State:
        return self._arms.state() | {"shared": self._shared, "stamp": self._stamp}

    def restore(self, state: State) -> None:
        self._arms.restore(state)
        self._shared, self._stamp = state["shared"].copy(), state["stamp"].copy()

    def changes(self) -> State:
        return self._arms.changes() | {"shared": self._shared.copy(), "stamp": self._stamp.copy()}

    def apply(self, changes: State) -> None:
        self._arms.apply(changes)
        self._shared, self._stamp = changes["shared"].copy(), changes["stamp"].copy()
