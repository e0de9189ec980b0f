"""Thompson sampling over Beta posteriors of click rates (Thompson 1933; Chapelle and Li 2011, Algorithm 2)."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_GRID_CELLS = 64  # cells; click rates are small, so they are dense near 0: squares of even steps
_STDS_BELOW, _STDS_ABOVE = (
    10.0,
    16.0,
)  # standard deviations that the grid reaches beyond the lowest and the highest mean
_NEGLIGIBLE_LOG = 20.0  # log of how much less likely a rate may be than the likeliest
_MIN_PROBABILITY = 1e-18  # chance of being below that counts as none, but can be multiplied
_MIN_PARAMETER, _MAX_PARAMETER = 1e-4, 1e7  # bounds of what a Beta's parameters may be


@kernel
def _build_grid(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells where the Betas have their mass: the log of each one's rate, of what is left of 1, and its width."""
    low, high = 1.0, 0.0
    for i in range(alpha.size):
        total = alpha[i] + beta[i]
        mean = alpha[i] / total
        std = np.sqrt(mean * (1.0 - mean) / (total + 1.0))
        low, high = min(low, mean - _STDS_BELOW * std), max(high, mean + _STDS_ABOVE * std)
    first, last = np.sqrt(max(0.0, low)), np.sqrt(min(1.0, high))
    log_rate, log_rest, width = np.empty(_GRID_CELLS), np.empty(_GRID_CELLS), np.empty(_GRID_CELLS)
    for c in range(_GRID_CELLS):
        start, end = (
            (first + (last - first) * c / _GRID_CELLS) ** 2,
            (first + (last - first) * (c + 1) / _GRID_CELLS) ** 2,
        )
        log_rate[c], log_rest[c], width[c] = np.log((start + end) / 2), np.log1p(-(start + end) / 2), end - start
    return log_rate, log_rest, width


@kernel
def _fill_masses(
    alpha: float, beta: float, log_rate: np.ndarray, log_rest: np.ndarray, width: np.ndarray, mass: np.ndarray,
    below: np.ndarray,
) -> None:  # fmt: skip
    """How likely a Beta is in each cell, and how likely below its middle."""
    top, total, cumulative = -np.inf, 0.0, 0.0
    for c in range(mass.size):
        mass[c] = (alpha - 1.0) * log_rate[c] + (beta - 1.0) * log_rest[c]
        top = max(top, mass[c])
    for c in range(mass.size):
        is_likely = mass[c] - top > -_NEGLIGIBLE_LOG  # of most cells of the grid there is nothing to reckon
        mass[c] = np.exp(mass[c] - top) * width[c] if is_likely else 0.0
        total += mass[c]
    for c in range(mass.size):
        mass[c] /= total
        # Half of a cell counts as below it, so that equal arms tie fairly.
        below[c] = max(cumulative + mass[c] / 2.0, _MIN_PROBABILITY)
        cumulative += mass[c]


@kernel
def _max_probabilities(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Probability that each of n Beta draws is the greatest: that it is in a cell and all others are below, summed."""
    n = alpha.size
    mass, below, product_after = np.empty((n, _GRID_CELLS)), np.empty((n, _GRID_CELLS)), np.ones((n, _GRID_CELLS))
    log_rate, log_rest, width = _build_grid(alpha, beta)
    for i in range(n):
        _fill_masses(alpha[i], beta[i], log_rate, log_rest, width, mass[i], below[i])
    for i in range(n - 1, 0, -1):  # that all arms behind one are below
        for c in range(_GRID_CELLS):
            product_after[i - 1, c] = product_after[i, c] * below[i, c]
    product_before, probabilities, total = np.ones(_GRID_CELLS), np.zeros(n), 0.0
    for i in range(n):
        for c in range(_GRID_CELLS):
            probabilities[i] += mass[i, c] * product_before[c] * product_after[i, c]
            product_before[c] *= below[i, c]
        total += probabilities[i]
    return probabilities / total


@kernel
def _probabilities_from_moments(means: np.ndarray, stds: np.ndarray) -> np.ndarray:
    """The same of Betas with these means and spreads."""
    alpha, beta = np.empty(means.size), np.empty(means.size)
    for i in range(means.size):
        mean = min(1.0 - _MIN_PARAMETER, max(_MIN_PARAMETER, means[i]))
        strength = mean * (1.0 - mean) / max(stds[i], 1e-9) ** 2 - 1.0
        strength = min(_MAX_PARAMETER, max(_MIN_PARAMETER, strength))
        alpha[i], beta[i] = mean * strength, (1.0 - mean) * strength
    return _max_probabilities(alpha, beta)


@dataclass(frozen=True, slots=True)
class BetaThompson:
    """Of the Betas that have the means and spreads, how likely each is to be the greatest: what a draw would pick.

    Computed instead of drawn, so that the propensity which is logged is the one that is used. For a `Beta` bandit they
    are its posteriors; for others, draws that stay between 0 and 1.

    >>> BetaThompson().probabilities(Posterior(np.array([0.1, 0.1]), np.array([0.05, 0.05]))).tolist()
    [0.5, 0.5]
    """

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        probabilities: np.ndarray = _probabilities_from_moments(posterior.means, posterior.stds)
        return probabilities
