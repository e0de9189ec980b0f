"""Thompson sampling over normal posteriors: with a `Disjoint` or `Hybrid` bandit this is linear Thompson sampling."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.arms import Judged
from stream.compiled import kernel

_PER_SPREAD = 256  # entries of the tables
_LOWEST, _HIGHEST = -8.5, 6.5  # spreads, outside of which a draw is surely above an edge, or below it
_PLACES = _LOWEST + np.arange(int((_HIGHEST - _LOWEST) * _PER_SPREAD) + 2) / _PER_SPREAD
_BELOW = np.array([0.5 * math.erfc(-place / math.sqrt(2)) for place in _PLACES.tolist()])
_HAZARD = np.exp(-(_PLACES**2) / 2) / math.sqrt(2 * math.pi) / _BELOW  # density at an edge of what is below it
_FAR = 6.0  # spreads beyond which a draw is not expected
_ROUGH = 12  # edges by which the range of the greatest draw is found
_LEAST, _MOST = 16, 256  # cells of that range
_SURE = 1e-7  # what may lie outside of it
_NARROWEST = 1e-9  # spread, as a share of the means or of 1


@kernel
def _span(mean: float, spread: float, low: float, step: float, edges: int) -> tuple[int, int]:
    """Edges from the first that an arm's draw may be below to behind the last that it may be above."""
    first, last = (mean + _LOWEST * spread - low) / step, (mean + _HIGHEST * spread - low) / step
    return max(0, min(edges, math.ceil(first))), max(0, min(edges, math.floor(last) + 1))


@kernel
def _all_below(
    means: np.ndarray, spreads: np.ndarray, low: float, step: float, table: np.ndarray, below: np.ndarray
) -> None:
    """Probability that all draws are below low, low + step, …"""
    below[:] = 1.0
    for i in range(means.size):
        first, last = _span(means[i], spreads[i], low, step, below.size)
        for edge in range(first):
            below[edge] = 0.0
        scale = _PER_SPREAD / spreads[i]
        at = (low - means[i]) * scale - _LOWEST * _PER_SPREAD
        for edge in range(first, last):
            place = at + edge * step * scale
            entry = int(place)
            below[edge] *= table[entry] + (place - entry) * (table[entry + 1] - table[entry])


@kernel
def _range(means: np.ndarray, spreads: np.ndarray, table: np.ndarray) -> tuple[float, float]:
    """Where the greatest draw can be."""
    low, high = -np.inf, -np.inf
    for i in range(means.size):
        low, high = max(low, means[i] - _FAR * spreads[i]), max(high, means[i] + _FAR * spreads[i])
    low -= _FAR * (high - low) / _MOST
    step = (high - low) / (_ROUGH - 1)
    below = np.empty(_ROUGH)
    _all_below(means, np.maximum(spreads, (high - low) / _MOST), low, step, table, below)
    first, last = 0, _ROUGH - 1
    while first + 1 < last and below[first + 1] < _SURE:
        first += 1
    while last - 1 > first and below[last - 1] > 1.0 - _SURE:
        last -= 1
    return low + first * step, low + last * step


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
def _weigh(means: np.ndarray, given: np.ndarray, scale: float, table: np.ndarray, hazard: np.ndarray) -> np.ndarray:
    """Probability that each arm's draw is the greatest: ∫ hazard of the arm · probability that all are below."""
    spreads = _widened(means, given, scale)
    low, high = _range(means, spreads, table)
    surest = np.inf
    for i in range(means.size):
        if means[i] + _FAR * spreads[i] > low:
            surest = min(surest, spreads[i])
    cells = _LEAST
    while cells < _MOST and high - low > surest * cells:
        cells *= 2
    step = (high - low) / cells
    # A sum over cells is as good as the integral as long as none is wider than a spread.
    spreads, low = np.maximum(spreads, step), low + 0.5 * step
    below, chances, total = np.empty(cells), np.zeros(means.size), 0.0
    _all_below(means, spreads, low, step, table, below)
    for i in range(means.size):
        first, last = _span(means[i], spreads[i], low, step, cells)
        per_unit = _PER_SPREAD / spreads[i]
        at = (low - means[i]) * per_unit - _LOWEST * _PER_SPREAD
        for cell in range(first, last):
            place = at + cell * step * per_unit
            entry = int(place)
            chances[i] += below[cell] * (hazard[entry] + (place - entry) * (hazard[entry + 1] - hazard[entry]))
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
        return _weigh(judged.means, judged.spreads, self.scale, _BELOW, _HAZARD)
