"""A linear model of the reward for each arm: its settings, its row, and how it begins and is reckoned afresh."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.posteriors.discounted_arms import FadingArms
from online_models.bandits.posteriors.discounting import LAST_TS, MOVED, NOT_MOVED, Fading
from online_models.bandits.posteriors.packed_matrix import invert, packed_size, times
from online_models.bandits.protocols import Prior
from online_models.state.tables import Column
from stream.jit import kernel

AFRESH = 512  # updates after which an inverse is computed afresh, so that rounding does not add up
RIDGE, UPDATES = 3, 4  # behind what is watched of an arm
_LONGEST = 1e6  # square of a context times its weight


@dataclass(frozen=True, slots=True)
class LinearSettings:
    """`noise` / √`ridge` is how unsure one is of an arm that nobody tried, in a context of length 1."""

    ridge: float = 1.0
    noise: float = 0.5  # standard deviation of a reward around its mean; no more is possible from 0 to 1
    mean: float = 0.0  # of an arm that nobody tried
    fading: Fading = field(default_factory=Fading)

    def __post_init__(self) -> None:
        demand_positive(ridge=self.ridge, noise=self.noise)
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean must be from 0 to 1, got {self.mean}")


def demand_positive(**settings: float) -> None:
    """ValueError for the first that is not a positive number."""
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value}")


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
def take_context(contexts: np.ndarray, i: int, x: np.ndarray) -> bool:
    """Put the context of arm i into x; whether it is another than that of the arm before."""
    if i > 0 and contexts.shape[0] == 1:
        return False
    x[:] = contexts[i]
    if not is_short(x, 1.0):
        x[:] = 0.0  # a context that is no number says nothing: all arms are what they were before
    return True


@kernel
def solve_arm(posterior: np.ndarray, sums: np.ndarray, watch: np.ndarray, width: int) -> None:
    """Inverse and weights of one arm from its sums."""
    size = width * (width + 1) // 2
    inverse = posterior[1 + width : 1 + width + size]
    invert(sums[width : width + size], watch[RIDGE], inverse)
    times(inverse, sums[:width], posterior[1 : 1 + width])
    watch[UPDATES] = 0.0


@kernel
def _begin(
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


class LinearArms(FadingArms):
    """Arms of which each has a weight vector θ of its own, the inverse A⁻¹ that goes with it, and the sums of both."""

    def __init__(self, own: int, more: tuple[int, int], settings: LinearSettings) -> None:
        """`own` numbers of a context are for the arm's model; `more` numbers stand behind posterior and sums."""
        size = own + packed_size(own)
        columns = {
            "posterior": Column("float64", (1 + size + more[0],)),  # prior mean, θ, A⁻¹
            "sums": Column("float64", (size + more[1],)),  # b, A without its ridge
            "watch": Column("float64", (5,)),
        }
        super().__init__(columns, settings.fading)
        self._own = own
        self._linear = settings

    def admit(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; arms that are new begin with their prior."""
        rows, setting = self._arms.admit(keys), self._linear
        means = np.full(rows.size, setting.mean) if prior is None else prior.means
        ridges = np.full(rows.size, setting.ridge) if prior is None else (setting.noise / prior.spreads) ** 2
        _begin(rows, means, ridges, self._own, self._arms["posterior"], self._arms["watch"])
        return rows
