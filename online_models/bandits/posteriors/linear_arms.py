"""A linear model of the reward for each arm: its settings, its row, and how it begins and is reckoned afresh."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.posteriors.discounted_arms import DiscountedArms
from online_models.bandits.posteriors.discounting import CHANGED_AT, MAX_TS, NEVER_CHANGED, Discounting
from online_models.bandits.posteriors.packed_matrix import invert, matvec, packed_size
from online_models.bandits.protocols import Prior
from online_models.state.tables import Column
from stream.jit import kernel

REFRESH_EVERY = 512  # updates after which an inverse is computed afresh, so that rounding does not add up
RIDGE, UPDATES = 3, 4  # behind what is watched of an arm
_MAX_SQUARED_NORM = 1e6  # square of a context times its weight


@dataclass(frozen=True, slots=True)
class LinearArmSettings:
    """`noise` / √`ridge` is how unsure one is of an arm that nobody tried, in a context of length 1."""

    ridge: float = 1.0
    noise: float = 0.5  # standard deviation of a reward around its mean; no more is possible from 0 to 1
    mean: float = 0.0  # of an arm that nobody tried
    discounting: Discounting = field(default_factory=Discounting)

    def __post_init__(self) -> None:
        check_positive(ridge=self.ridge, noise=self.noise)
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean must be from 0 to 1, got {self.mean}")


def check_positive(**settings: float) -> None:
    """ValueError for the first that is not a positive number."""
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value}")


@kernel
def is_bounded(x: np.ndarray, weight: float) -> bool:
    """Whether a context is made of numbers, none of them absurd."""
    squared_norm = 0.0
    for j in range(x.size):
        squared_norm += x[j] * x[j]
    return weight >= 0.0 and weight * squared_norm <= _MAX_SQUARED_NORM and squared_norm <= _MAX_SQUARED_NORM


@kernel
def is_valid(x: np.ndarray, reward: float, weight: float, ts: int) -> bool:
    return 0.0 <= reward <= 1.0 and 0 <= ts <= MAX_TS and is_bounded(x, weight)


@kernel
def load_context(contexts: np.ndarray, i: int, x: np.ndarray) -> bool:
    """Put the context of arm i into x; whether it is another than that of the arm before."""
    if i > 0 and contexts.shape[0] == 1:
        return False
    x[:] = contexts[i]
    if not is_bounded(x, 1.0):
        x[:] = 0.0  # a context that is no number says nothing: all arms are what they were before
    return True


@kernel
def solve_arm(posterior: np.ndarray, sums: np.ndarray, monitor: np.ndarray, width: int) -> None:
    """Inverse and weights of one arm from its sums."""
    size = width * (width + 1) // 2
    inverse = posterior[1 + width : 1 + width + size]
    invert(sums[width : width + size], monitor[RIDGE], inverse)
    matvec(inverse, sums[:width], posterior[1 : 1 + width])
    monitor[UPDATES] = 0.0


@kernel
def _initialize_arms(
    rows: np.ndarray, means: np.ndarray, ridges: np.ndarray, width: int, posterior: np.ndarray, monitor: np.ndarray
) -> None:
    """Rows that no arm had: a weight vector of 0 around the prior mean, and an inverse of I / ridge."""
    for i in range(rows.size):
        row = rows[i]
        if monitor[row, RIDGE] > 0.0:
            continue
        monitor[row, CHANGED_AT] = NEVER_CHANGED
        monitor[row, RIDGE] = ridges[i]
        posterior[row] = 0.0
        posterior[row, 0] = means[i]
        for j in range(width):
            posterior[row, 1 + width + j * (j + 1) // 2 + j] = 1.0 / ridges[i]


class LinearArms(DiscountedArms):
    """Arms of which each has a weight vector θ of its own, the inverse A⁻¹ that goes with it, and the sums of both."""

    def __init__(self, arm_width: int, extra_sizes: tuple[int, int], settings: LinearArmSettings) -> None:
        """`own` numbers of a context are for the arm's model; `more` numbers stand behind posterior and sums."""
        size = arm_width + packed_size(arm_width)
        columns = {
            "posterior": Column("float64", (1 + size + extra_sizes[0],)),  # prior mean, θ, A⁻¹
            "sums": Column("float64", (size + extra_sizes[1],)),  # b, A without its ridge
            "monitor": Column("float64", (5,)),
        }
        super().__init__(columns, settings.discounting)
        self._arm_width = arm_width
        self._linear_settings = settings

    def add_arms(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        """Rows of arms by key, (n,) int32; arms that are new begin with their prior."""
        rows, settings = self._arms.add_keys(keys), self._linear_settings
        means = np.full(rows.size, settings.mean) if prior is None else prior.means
        ridges = np.full(rows.size, settings.ridge) if prior is None else (settings.noise / prior.stds) ** 2
        _initialize_arms(rows, means, ridges, self._arm_width, self._arms["posterior"], self._arms["monitor"])
        return rows
