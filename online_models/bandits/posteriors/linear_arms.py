"""Rows of a linear model per arm: settings, initial values, and recomputation from sums."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.posteriors.discounted_arms import DiscountedArms
from online_models.bandits.posteriors.discounting import CHANGED_AT, MAX_TS, NEVER_CHANGED, Discounting
from online_models.bandits.posteriors.packed_matrix import invert, matvec, packed_size
from online_models.bandits.protocols import Prior
from online_models.state.tables import Column
from stream.jit import kernel

REFRESH_EVERY = 512  # updates after which an inverse is recomputed, so that rounding errors do not accumulate
RIDGE, UPDATES = 3, 4  # monitor columns after those of `discounting`
_MAX_SQUARED_NORM = 1e6  # of a context, and of a context times its weight


@dataclass(frozen=True, slots=True)
class LinearArmSettings:
    """Prior and noise of an arm; in a context of length 1 the prior std is noise / √ridge."""

    ridge: float = 1.0
    noise: float = 0.5  # standard deviation of a reward around its mean; 0.5 is the maximum for rewards in [0, 1]
    mean: float = 0.0  # of a new arm
    discounting: Discounting = field(default_factory=Discounting)

    def __post_init__(self) -> None:
        check_positive(ridge=self.ridge, noise=self.noise)
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean must be from 0 to 1, got {self.mean}")


def check_positive(**settings: float) -> None:
    """Raise ValueError for the first setting that is not a positive number."""
    for name, value in settings.items():
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be a positive number, got {value}")


@kernel
def is_bounded(x: np.ndarray, weight: float) -> bool:
    """Return True if a context is finite and neither it nor its weight is absurdly large."""
    squared_norm = 0.0
    for j in range(x.size):
        squared_norm += x[j] * x[j]
    return weight >= 0.0 and weight * squared_norm <= _MAX_SQUARED_NORM and squared_norm <= _MAX_SQUARED_NORM


@kernel
def is_valid(x: np.ndarray, reward: float, weight: float, ts: int) -> bool:
    return 0.0 <= reward <= 1.0 and 0 <= ts <= MAX_TS and is_bounded(x, weight)


@kernel
def load_context(contexts: np.ndarray, i: int, x: np.ndarray) -> bool:
    """Copy the context of arm i into x; return False if x holds it already."""
    if i > 0 and contexts.shape[0] == 1:
        return False
    x[:] = contexts[i]
    if not is_bounded(x, 1.0):
        x[:] = 0.0  # an invalid context says nothing: all arms keep their prior mean
    return True


@kernel
def solve_arm(posterior: np.ndarray, sums: np.ndarray, monitor: np.ndarray, width: int) -> None:
    """Recompute A⁻¹ and θ of one arm from its sums."""
    size = width * (width + 1) // 2
    inverse = posterior[1 + width : 1 + width + size]
    invert(sums[width : width + size], monitor[RIDGE], inverse)
    matvec(inverse, sums[:width], posterior[1 : 1 + width])
    monitor[UPDATES] = 0.0


@kernel
def _initialize_arms(
    rows: np.ndarray, means: np.ndarray, ridges: np.ndarray, width: int, posterior: np.ndarray, monitor: np.ndarray
) -> None:
    """Initialize unused rows: θ = 0 around the prior mean, and A⁻¹ = I / ridge."""
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
    """Arms with weights θ each, their inverse precision A⁻¹, and the sums that define both."""

    def __init__(self, arm_width: int, extra_sizes: tuple[int, int], settings: LinearArmSettings) -> None:
        """Reserve `arm_width` numbers per context, and `extra_sizes` behind posterior and sums."""
        size = arm_width + packed_size(arm_width)
        columns = {
            "posterior": Column("float64", (1 + size + extra_sizes[0],)),  # prior mean, θ, A⁻¹
            "sums": Column("float64", (size + extra_sizes[1],)),  # b, A without its ridge
            "monitor": Column("float64", (5,)),  # change detection, ridge, updates since the last recomputation
        }
        super().__init__(columns, settings.discounting)
        self._arm_width = arm_width
        self._linear_settings = settings

    def add_arms(self, keys: np.ndarray, prior: Prior | None = None) -> np.ndarray:
        rows, settings = self._arms.add_keys(keys), self._linear_settings
        means = np.full(rows.size, settings.mean) if prior is None else prior.means
        ridges = np.full(rows.size, settings.ridge) if prior is None else (settings.noise / prior.stds) ** 2
        _initialize_arms(rows, means, ridges, self._arm_width, self._arms["posterior"], self._arms["monitor"])
        return rows
