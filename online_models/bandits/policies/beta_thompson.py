"""Thompson sampling over Beta posteriors of click rates (Thompson 1933; Chapelle and Li 2011, Algorithm 2)."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Judged
from stream.jit import kernel

_GRID = 64  # cells; click rates are small, so they are dense near 0: squares of even steps
_BELOW, _ABOVE = 10.0, 16.0  # standard deviations that the grid reaches beyond the lowest and the highest mean
_NEGLIGIBLE = 20.0  # log of how much less likely a rate may be than the likeliest
_NOTHING = 1e-18  # chance of being below that counts as none, but can be multiplied
_LEAST, _MOST = 1e-4, 1e7  # bounds of what a Beta's parameters may be


@kernel
def _grid(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells where the Betas have their mass: the log of each one's rate, of what is left of 1, and its width."""
    low, high = 1.0, 0.0
    for i in range(alpha.size):
        total = alpha[i] + beta[i]
        mean = alpha[i] / total
        spread = np.sqrt(mean * (1.0 - mean) / (total + 1.0))
        low, high = min(low, mean - _BELOW * spread), max(high, mean + _ABOVE * spread)
    first, last = np.sqrt(max(0.0, low)), np.sqrt(min(1.0, high))
    log_rate, log_rest, width = np.empty(_GRID), np.empty(_GRID), np.empty(_GRID)
    for c in range(_GRID):
        start, end = (first + (last - first) * c / _GRID) ** 2, (first + (last - first) * (c + 1) / _GRID) ** 2
        log_rate[c], log_rest[c], width[c] = np.log((start + end) / 2), np.log1p(-(start + end) / 2), end - start
    return log_rate, log_rest, width


@kernel
def _masses(
    alpha: float, beta: float, log_rate: np.ndarray, log_rest: np.ndarray, width: np.ndarray, mass: np.ndarray,
    below: np.ndarray,
) -> None:  # fmt: skip
    """How likely a Beta is in each cell, and how likely below its middle."""
    top, total, under = -np.inf, 0.0, 0.0
    for c in range(mass.size):
        mass[c] = (alpha - 1.0) * log_rate[c] + (beta - 1.0) * log_rest[c]
        top = max(top, mass[c])
    for c in range(mass.size):
        likely = mass[c] - top > -_NEGLIGIBLE  # of most cells of the grid there is nothing to reckon
        mass[c] = np.exp(mass[c] - top) * width[c] if likely else 0.0
        total += mass[c]
    for c in range(mass.size):
        mass[c] /= total
        # Half of a cell counts as below it, so that equal arms tie fairly.
        below[c] = max(under + mass[c] / 2.0, _NOTHING)
        under += mass[c]


@kernel
def _greatest(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Probability that each of n Beta draws is the greatest: that it is in a cell and all others are below, summed."""
    n = alpha.size
    mass, below, behind = np.empty((n, _GRID)), np.empty((n, _GRID)), np.ones((n, _GRID))
    log_rate, log_rest, width = _grid(alpha, beta)
    for i in range(n):
        _masses(alpha[i], beta[i], log_rate, log_rest, width, mass[i], below[i])
    for i in range(n - 1, 0, -1):  # that all arms behind one are below
        for c in range(_GRID):
            behind[i - 1, c] = behind[i, c] * below[i, c]
    before, best, whole = np.ones(_GRID), np.zeros(n), 0.0
    for i in range(n):
        for c in range(_GRID):
            best[i] += mass[i, c] * before[c] * behind[i, c]
            before[c] *= below[i, c]
        whole += best[i]
    return best / whole


@kernel
def _of_judged(means: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """The same of Betas with these means and spreads."""
    alpha, beta = np.empty(means.size), np.empty(means.size)
    for i in range(means.size):
        mean = min(1.0 - _LEAST, max(_LEAST, means[i]))
        strength = mean * (1.0 - mean) / max(spreads[i], 1e-9) ** 2 - 1.0
        strength = min(_MOST, max(_LEAST, strength))
        alpha[i], beta[i] = mean * strength, (1.0 - mean) * strength
    return _greatest(alpha, beta)


@dataclass(frozen=True, slots=True)
class Thompson:
    """Of the Betas that have the means and spreads, how likely each is to be the greatest: what a draw would pick.

    Computed instead of drawn, so that the propensity which is logged is the one that is used. For a `Beta` bandit they
    are its posteriors; for others, draws that stay between 0 and 1.

    >>> Thompson().weigh(Judged(np.array([0.1, 0.1]), np.array([0.05, 0.05]))).tolist()
    [0.5, 0.5]
    """

    def weigh(self, judged: Judged) -> np.ndarray:
        weighed: np.ndarray = _of_judged(judged.means, judged.spreads)
        return weighed
