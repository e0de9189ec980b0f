"""A linear model of the reward for each arm: the posterior of disjoint LinUCB and of linear Thompson sampling."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.arms import Judged, Prior, Rewards, are_rows, demand_rows, demand_width
from online_models.bandits.fading import LAST_TS, MOVED, NOT_BEGUN, NOT_MOVED, Fading, is_refuted, kept_until, weight_at
from online_models.bandits.packed import add_outer, dot, invert, packed_size, pairs_of, times
from online_models.tables import Column, State, Table
from stream.compiled import kernel

AFRESH = 512  # updates after which an inverse is computed afresh, so that rounding does not add up
_LONGEST = 1e6  # square of a context times its weight
RIDGE, UPDATES = 3, 4  # behind what is watched of an arm


@dataclass(frozen=True, slots=True)
class DisjointSettings:
    """`noise` / √`ridge` is how unsure one is of an arm that nobody tried, in a context of length 1."""

    ridge: float = 1.0
    noise: float = 0.5  # standard deviation of a reward around its mean; no more is possible from 0 to 1
    mean: float = 0.0  # of an arm that nobody tried
    fading: Fading = field(default_factory=Fading)

    def __post_init__(self) -> None:
        for name in ("ridge", "noise"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean must be from 0 to 1, got {self.mean}")


@kernel
def begin_arms(
    rows: np.ndarray, means: np.ndarray, ridges: np.ndarray, width: int, posterior: np.ndarray, watch: np.ndarray
) -> None:
    """Rows that no arm had: a weight vector of 0 around the prior mean, and an inverse of I / ridge."""
    for i in range(rows.size):
        row = rows[i]
        if watch[row, RIDGE] > 0.0:
            continue
        watch[row, MOVED] = NOT_MOVED
        watch[row, RIDGE] = ridges[i]
        posterior[row] = 0.0
        posterior[row, 0] = means[i]
        for j in range(width):
            posterior[row, 1 + width + j * (j + 1) // 2 + j] = 1.0 / ridges[i]


@kernel
def solve_arm(posterior: np.ndarray, sums: np.ndarray, watch: np.ndarray, width: int) -> None:
    """Inverse and weights of one arm from its sums."""
    size = width * (width + 1) // 2
    inverse = posterior[1 + width : 1 + width + size]
    invert(sums[width : width + size], watch[RIDGE], inverse)
    times(inverse, sums[:width], posterior[1 : 1 + width])
    watch[UPDATES] = 0.0


@kernel
def is_short(x: np.ndarray, weight: float) -> bool:
    """Whether a context is made of numbers, none of them absurd."""
    square = 0.0
    for j in range(x.size):
        square += x[j] * x[j]
    return weight >= 0.0 and weight * square <= _LONGEST and square <= _LONGEST


@kernel
def is_sound(x: np.ndarray, reward: float, weight: float, ts: int) -> bool:
    return 0.0 <= reward <= 1.0 and 0 <= ts <= LAST_TS and is_short(x, weight)


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
        if i == 0 or contexts.shape[0] > 1:
            x[:] = contexts[i]
            if not is_short(x, 1.0):
                x[:] = 0.0  # a context that is no number says nothing: all arms are what they were before
            pairs_of(x, pairs)
        own = posterior[arms[i]]
        judged[0, i] = own[0] + dot(own[1 : 1 + width], x)
        judged[1, i] = noise * np.sqrt(max(dot(own[1 + width :], pairs), 0.0))
    return judged


class Disjoint:
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

    def __init__(self, width: int, settings: DisjointSettings = DisjointSettings()) -> None:
        """`width` numbers of a context; let the first be 1 if an arm is to have a mean of its own."""
        if width < 1:
            raise ValueError(f"width must be at least 1, got {width}")
        self.settings = settings
        self.skipped = self.alarms = 0
        self._width = width
        self._rates = settings.fading.rates
        self._stamp = np.full(1, NOT_BEGUN)  # event time, ms, that all sums stand for
        self._arms = Table(
            {
                "posterior": Column("float64", (1 + width + packed_size(width),)),  # prior mean, θ, A⁻¹
                "sums": Column("float64", (width + packed_size(width),)),  # b, A without its ridge
                "watch": Column("float64", (5,)),
            },
            capacity=64,
        )

    @property
    def width(self) -> int:
        return self._width

    def admit(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; arms that are new begin with their prior."""
        rows = self._arms.admit(keys)
        setting = self.settings
        means = np.full(rows.size, setting.mean) if prior is None else prior.means
        ridges = np.full(rows.size, setting.ridge) if prior is None else (setting.noise / prior.spreads) ** 2
        begin_arms(rows, means, ridges, self._width, self._arms["posterior"], self._arms["watch"])
        return rows

    def find(self, keys: np.ndarray) -> np.ndarray:
        return self._arms.find(keys)

    def retire(self, arms: np.ndarray) -> None:
        self._arms.free(arms)

    def learn(self, rewards: Rewards) -> None:
        """One micro-batch, row by row; splitting it changes nothing."""
        table = self._arms
        demand_width(rewards.contexts, len(rewards), self._width)
        skipped, alarms, faded = _learn(
            table["posterior"], table["sums"], table["watch"], self._stamp, len(table),
            rewards.arms, rewards.contexts, rewards.reward, rewards.weight, rewards.ts,
            self.settings.noise, self._rates,
        )  # fmt: skip
        table.touch(np.arange(len(table)) if faded else rewards.arms)
        self.skipped += skipped
        self.alarms += alarms

    def judge(self, arms: np.ndarray, contexts: np.ndarray) -> Judged:
        """What is thought of n arms; contexts are (n, d), or (1, d) if all arms are in the same."""
        demand_width(contexts, arms.size, self._width)
        judged = _judge(self._arms["posterior"], len(self._arms), arms, contexts, self.settings.noise)
        demand_rows(judged, arms, len(self._arms))
        return Judged(judged[0], judged[1])

    def state(self) -> State:
        return self._arms.state() | {"stamp": self._stamp}

    def restore(self, state: State) -> None:
        self._arms.restore(state)
        self._stamp = state["stamp"].copy()

    def changes(self) -> State:
        return self._arms.changes() | {"stamp": self._stamp.copy()}

    def apply(self, changes: State) -> None:
        self._arms.apply(changes)
        self._stamp = changes["stamp"].copy()
