"""Thompson sampling over normal posteriors; over a linear bandit, linear Thompson sampling."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_CELLS_PER_STD = 256  # table entries per standard deviation
_MIN_Z, _MAX_Z = -8.5, 6.5  # z-scores beyond which the normal CDF counts as 0 or 1
_SHIFT, _END = -_MIN_Z * _CELLS_PER_STD, (_MAX_Z - _MIN_Z) * _CELLS_PER_STD  # table positions of z = 0 and of _MAX_Z
_Z_GRID = _MIN_Z + np.arange(int((_MAX_Z - _MIN_Z) * _CELLS_PER_STD) + 1) / _CELLS_PER_STD
_CDF = np.array([0.5 * math.erfc(-z / math.sqrt(2)) for z in _Z_GRID.tolist()])
_HAZARD = np.exp(-(_Z_GRID**2) / 2) / math.sqrt(2 * math.pi) / _CDF  # density at z, given a draw below z
_TAIL_STDS = 6.0  # standard deviations beyond which a draw is ignored
_BISECTIONS = 5  # steps that narrow the range of the greatest draw, per side
_MIN_CELLS, _MAX_CELLS = 16, 256  # cells of this range
_TAIL_PROBABILITY = 1e-7  # probability outside this range, per side
_MIN_RELATIVE_STD = 1e-9  # smallest standard deviation, relative to the greatest mean or 1


def _fit_lines(values: np.ndarray, first: float, last: float) -> np.ndarray:
    """Lines between entries, (2, n): value = base + slope · position; constant beyond both ends."""
    slope = np.diff(values)
    base = values[:-1] - np.arange(slope.size) * slope
    return np.array([np.concatenate([[first], base[1:], [last]]), np.concatenate([[0.0], slope[1:], [0.0]])])


# Rows: base and slope of the CDF, then base and slope of the hazard.
_LINES = np.concatenate([_fit_lines(_CDF, 0.0, 1.0), _fit_lines(_HAZARD, 0.0, 0.0)])


@kernel
def _interpolate(lines: np.ndarray, table: int, position: float) -> float:
    position = min(max(position, 0.0), lines.shape[1] - 1.0)
    entry = np.uint32(np.int32(position))  # never negative, which spares the wrap-around check
    value: float = lines[table, entry] + position * lines[table + 1, entry]
    return value


@kernel
def _fill_joint_cdf(
    means: np.ndarray, stds: np.ndarray, low: float, step: float, lines: np.ndarray, joint_cdf: np.ndarray
) -> None:
    """Write the probability that all draws are below each edge low, low + step and so on."""
    joint_cdf[:] = 1.0
    for i in range(means.size):
        scale = _CELLS_PER_STD / stds[i]
        position = (low - means[i]) * scale + _SHIFT
        if position > _END:
            continue
        for edge in range(joint_cdf.size):
            joint_cdf[edge] *= _interpolate(lines, 0, position + edge * (step * scale))


@kernel
def _is_max_below(
    means: np.ndarray, stds: np.ndarray, min_std: float, edge: float, probability: float, lines: np.ndarray
) -> bool:
    """Return True if all draws are below an edge with more than this probability."""
    joint_cdf = 1.0
    for i in range(means.size):
        joint_cdf *= _interpolate(lines, 0, (edge - means[i]) * (_CELLS_PER_STD / max(stds[i], min_std)) + _SHIFT)
        if joint_cdf <= probability:
            return False
    return True


@kernel
def _find_max_range(means: np.ndarray, stds: np.ndarray, lines: np.ndarray) -> tuple[float, float]:
    """Range that holds the greatest draw, up to the tail probability on each side."""
    low, high = -np.inf, -np.inf
    for i in range(means.size):
        low, high = max(low, means[i] - _TAIL_STDS * stds[i]), max(high, means[i] + _TAIL_STDS * stds[i])
    min_std = (high - low) / _MAX_CELLS
    low -= _TAIL_STDS * min_std
    outer, inner = low, high
    for _ in range(_BISECTIONS):
        middle = 0.5 * (outer + inner)
        if _is_max_below(means, stds, min_std, middle, _TAIL_PROBABILITY, lines):
            inner = middle
        else:
            outer = middle
    low, inner = outer, outer
    for _ in range(_BISECTIONS):
        middle = 0.5 * (inner + high)
        if _is_max_below(means, stds, min_std, middle, 1.0 - _TAIL_PROBABILITY, lines):
            high = middle
        else:
            inner = middle
    return low, high


@kernel
def _widen_stds(means: np.ndarray, stds: np.ndarray, scale: float) -> np.ndarray:
    """Standard deviations times `scale`, with a floor relative to the greatest mean."""
    max_abs, result = 1.0, np.empty(stds.size)
    for i in range(means.size):
        max_abs = max(max_abs, abs(means[i]))
    for i in range(means.size):
        result[i] = max(scale * stds[i], _MIN_RELATIVE_STD * max_abs)
    return result


@kernel
def _compute_probabilities(means: np.ndarray, raw_stds: np.ndarray, scale: float, lines: np.ndarray) -> np.ndarray:
    """Probability that each arm's draw is the greatest: ∫ hazard of the arm · P(all below)."""
    stds = _widen_stds(means, raw_stds, scale)
    low, high = _find_max_range(means, stds, lines)
    min_std = np.inf
    for i in range(means.size):
        if means[i] + _TAIL_STDS * stds[i] > low:
            min_std = min(min_std, stds[i])
    # The sum over cells equals the integral closely as long as no cell is wider than a standard deviation.
    cells = max(_MIN_CELLS, math.ceil(min(float(_MAX_CELLS), (high - low) / min_std)))
    step = (high - low) / cells
    stds, low = np.maximum(stds, step), low + 0.5 * step
    joint_cdf, probabilities, total = np.empty(cells), np.zeros(means.size), 0.0
    _fill_joint_cdf(means, stds, low, step, lines, joint_cdf)
    for i in range(means.size):
        per_unit = _CELLS_PER_STD / stds[i]
        position = (low - means[i]) * per_unit + _SHIFT
        if position > _END:
            continue
        for cell in range(cells):
            probabilities[i] += joint_cdf[cell] * _interpolate(lines, 2, position + cell * (step * per_unit))
        probabilities[i] /= stds[i]
        total += probabilities[i]
    return probabilities / total


@dataclass(frozen=True, slots=True)
class GaussianThompson:
    """Choose each arm with the probability that its normal draw is the greatest.

    Agrawal and Goyal 2013, Algorithm 1. The probability is integrated instead of simulated, so that the logged
    propensity is exact. `scale` multiplies the standard deviations: v of the paper. Standard deviations below 1/256 of
    the range of the greatest draw are raised to it.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, got {self.scale}")

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        return _compute_probabilities(posterior.means, posterior.stds, self.scale, _LINES)
