"""Thompson sampling over Beta posteriors of click rates."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_GRID_CELLS = 64  # cells; their edges are squares of even steps, since click rates are small
_STDS_BELOW, _STDS_ABOVE = 10.0, 16.0  # standard deviations from the lowest and highest mean to the grid's ends
_NEGLIGIBLE_LOG = 20.0  # log density below the maximum that counts as zero
_MIN_PROBABILITY = 1e-18  # smallest probability of a draw below a cell; zero would erase the product over arms
_MIN_PARAMETER, _MAX_PARAMETER = 1e-4, 1e7  # bounds of a Beta's mean and strength


@kernel
def _build_grid(alpha: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells that cover the mass of all Betas: log of each middle, log of 1 minus it, and width."""
    low, high = 1.0, 0.0
    for i in range(alpha.size):
        total = alpha[i] + beta[i]
        mean = alpha[i] / total
        std = np.sqrt(mean * (1.0 - mean) / (total + 1.0))
        low, high = min(low, mean - _STDS_BELOW * std), max(high, mean + _STDS_ABOVE * std)
    first, last = np.sqrt(max(0.0, low)), np.sqrt(min(1.0, high))
    log_rate, log_rest, width = np.empty(_GRID_CELLS), np.empty(_GRID_CELLS), np.empty(_GRID_CELLS)
    for c in range(_GRID_CELLS):
        start = (first + (last - first) * c / _GRID_CELLS) ** 2
        end = (first + (last - first) * (c + 1) / _GRID_CELLS) ** 2
        log_rate[c], log_rest[c], width[c] = np.log((start + end) / 2), np.log1p(-(start + end) / 2), end - start
    return log_rate, log_rest, width


@kernel
def _fill_masses(
    alpha: float, beta: float, log_rate: np.ndarray, log_rest: np.ndarray, width: np.ndarray, mass: np.ndarray,
    below: np.ndarray,
) -> None:  # fmt: skip
    """Write the probability of each cell under one Beta, and the probability below its middle."""
    top, total, cumulative = -np.inf, 0.0, 0.0
    for c in range(mass.size):
        mass[c] = (alpha - 1.0) * log_rate[c] + (beta - 1.0) * log_rest[c]
        top = max(top, mass[c])
    for c in range(mass.size):
        is_likely = mass[c] - top > -_NEGLIGIBLE_LOG  # most cells need no exponential
        mass[c] = np.exp(mass[c] - top) * width[c] if is_likely else 0.0
        total += mass[c]
    for c in range(mass.size):
        mass[c] /= total
        # Half of a cell counts as below it, so that equal arms tie fairly.
        below[c] = max(cumulative + mass[c] / 2.0, _MIN_PROBABILITY)
        cumulative += mass[c]


@kernel
def _max_probabilities(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Probability that each Beta draw is the greatest: Σ P(in a cell) · P(all others below it)."""
    n = alpha.size
    mass, below, product_after = np.empty((n, _GRID_CELLS)), np.empty((n, _GRID_CELLS)), np.ones((n, _GRID_CELLS))
    log_rate, log_rest, width = _build_grid(alpha, beta)
    for i in range(n):
        _fill_masses(alpha[i], beta[i], log_rate, log_rest, width, mass[i], below[i])
    for i in range(n - 1, 0, -1):  # product of `below` over all arms after each
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
    """Probability that each draw is the greatest, for Betas with these moments."""
    alpha, beta = np.empty(means.size), np.empty(means.size)
    for i in range(means.size):
        mean = min(1.0 - _MIN_PARAMETER, max(_MIN_PARAMETER, means[i]))
        strength = mean * (1.0 - mean) / max(stds[i], 1e-9) ** 2 - 1.0
        strength = min(_MAX_PARAMETER, max(_MIN_PARAMETER, strength))
        alpha[i], beta[i] = mean * strength, (1.0 - mean) * strength
    return _max_probabilities(alpha, beta)


@dataclass(frozen=True, slots=True)
class BetaThompson:
    """Choose each arm with the probability that its draw from a Beta posterior is the greatest.

    Thompson (1933); Chapelle and Li 2011, Algorithm 2. The probability is integrated on a grid instead of simulated,
    so that the logged propensity is exact. The Betas match the means and standard deviations of the posterior: for
    `BetaBernoulli` they are its posterior itself, for other bandits they keep draws between 0 and 1.

    >>> BetaThompson().probabilities(Posterior(np.array([0.1, 0.1]), np.array([0.05, 0.05]))).tolist()
    [0.5, 0.5]
    """

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        probabilities: np.ndarray = _probabilities_from_moments(posterior.means, posterior.stds)
        return probabilities
