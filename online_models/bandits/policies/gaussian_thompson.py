"""Thompson sampling over normal posteriors: with a `Disjoint` or `Hybrid` bandit this is linear Thompson sampling."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Judged
from stream.jit import kernel

_PER_SPREAD = 256  # entries of the tables
_LOWEST, _HIGHEST = -8.5, 6.5  # spreads, outside of which a draw is surely above an edge, or below it
_SHIFT, _END = -_LOWEST * _PER_SPREAD, (_HIGHEST - _LOWEST) * _PER_SPREAD  # of an arm's mean, and of the highest
_PLACES = _LOWEST + np.arange(int((_HIGHEST - _LOWEST) * _PER_SPREAD) + 1) / _PER_SPREAD
_BELOW = np.array([0.5 * math.erfc(-place / math.sqrt(2)) for place in _PLACES.tolist()])
_HAZARD = np.exp(-(_PLACES**2) / 2) / math.sqrt(2 * math.pi) / _BELOW  # density at an edge of what is below it
_FAR = 6.0  # spreads beyond which a draw is not expected
_HALVINGS = 5  # of the range of the greatest draw, on either side
_LEAST, _MOST = 16, 256  # cells of that range
_SURE = 1e-7  # what may lie outside of it
_NARROWEST = 1e-9  # spread, as a share of the means or of 1


def _lines(values: np.ndarray, first: float, last: float) -> np.ndarray:
    """Of each entry the line to the next, (2, n): value = base + slope · place; at the ends what holds beyond them."""
    slope = np.diff(values)
    base = values[:-1] - np.arange(slope.size) * slope
    return np.array([np.concatenate([[first], base[1:], [last]]), np.concatenate([[0.0], slope[1:], [0.0]])])


_LINES = np.concatenate([_lines(_BELOW, 0.0, 1.0), _lines(_HAZARD, 0.0, 0.0)])  # below, with slope; hazard, with slope


@kernel
def _read(lines: np.ndarray, of: int, place: float) -> float:
    place = min(max(place, 0.0), lines.shape[1] - 1.0)
    entry = np.uint32(np.int32(place))  # never negative: nothing to wrap around, so it is fast
    value: float = lines[of, entry] + place * lines[of + 1, entry]
    return value


@kernel
def _all_below(
    means: np.ndarray, spreads: np.ndarray, low: float, step: float, lines: np.ndarray, below: np.ndarray
) -> None:
    """Probability that all draws are below low, low + step, …"""
    below[:] = 1.0
    for i in range(means.size):
        scale = _PER_SPREAD / spreads[i]
        at = (low - means[i]) * scale + _SHIFT
        if at > _END:
            continue
        for edge in range(below.size):
            below[edge] *= _read(lines, 0, at + edge * (step * scale))


@kernel
def _is_below(
    means: np.ndarray, spreads: np.ndarray, narrowest: float, edge: float, chance: float, lines: np.ndarray
) -> bool:
    """Whether all draws are below an edge with more than that chance."""
    below = 1.0
    for i in range(means.size):
        below *= _read(lines, 0, (edge - means[i]) * (_PER_SPREAD / max(spreads[i], narrowest)) + _SHIFT)
        if below <= chance:
            return False
    return True


@kernel
def _range(means: np.ndarray, spreads: np.ndarray, lines: np.ndarray) -> tuple[float, float]:
    """Where the greatest draw can be."""
    low, high = -np.inf, -np.inf
    for i in range(means.size):
        low, high = max(low, means[i] - _FAR * spreads[i]), max(high, means[i] + _FAR * spreads[i])
    narrowest = (high - low) / _MOST
    low -= _FAR * narrowest
    sure, unsure = low, high
    for _ in range(_HALVINGS):
        middle = 0.5 * (sure + unsure)
        if _is_below(means, spreads, narrowest, middle, _SURE, lines):
            unsure = middle
        else:
            sure = middle
    low, unsure = sure, sure
    for _ in range(_HALVINGS):
        middle = 0.5 * (unsure + high)
        if _is_below(means, spreads, narrowest, middle, 1.0 - _SURE, lines):
            high = middle
        else:
            unsure = middle
    return low, high


@kernel
def _widened(means: np.ndarray, spreads: np.ndarray, scale: float) -> np.ndarray:
    """Spreads times `scale`, none so narrow that it is lost beside the greatest mean."""
    greatest, widened = 1.0, np.empty(spreads.size)
    for i in range(means.size):
        greatest = max(greatest, abs(means[i]))
    for i in range(means.size):
        widened[i] = max(scale * spreads[i], _NARROWEST * greatest)
    return widened


@kernel
def _weigh(means: np.ndarray, given: np.ndarray, scale: float, lines: np.ndarray) -> np.ndarray:
    """Probability that each arm's draw is the greatest: ∫ hazard of the arm · probability that all are below."""
    spreads = _widened(means, given, scale)
    low, high = _range(means, spreads, lines)
    surest = np.inf
    for i in range(means.size):
        if means[i] + _FAR * spreads[i] > low:
            surest = min(surest, spreads[i])
    # A sum over cells is as good as the integral as long as none is wider than a spread.
    cells = max(_LEAST, math.ceil(min(float(_MOST), (high - low) / surest)))
    step = (high - low) / cells
    spreads, low = np.maximum(spreads, step), low + 0.5 * step
    below, chances, total = np.empty(cells), np.zeros(means.size), 0.0
    _all_below(means, spreads, low, step, lines, below)
    for i in range(means.size):
        per_unit = _PER_SPREAD / spreads[i]
        at = (low - means[i]) * per_unit + _SHIFT
        if at > _END:
            continue
        for cell in range(cells):
            chances[i] += below[cell] * _read(lines, 2, at + cell * (step * per_unit))
        chances[i] /= spreads[i]
        total += chances[i]
    return chances / total


@dataclass(frozen=True, slots=True)
class NormalThompson:
    """How likely each arm's draw is the greatest (Agrawal and Goyal 2013, Algorithm 1), computed instead of drawn.

    So the propensity that is logged is the one that is used. `scale` widens the spreads: v of the paper. An arm that
    is surer than 1/256 of the range in which the greatest draw can be is taken to be as unsure as that.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, got {self.scale}")

    def weigh(self, judged: Judged) -> np.ndarray:
        return _weigh(judged.means, judged.spreads, self.scale, _LINES)
