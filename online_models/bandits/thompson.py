"""Thompson sampling over Beta posteriors of click rates (Thompson 1933; Chapelle and Li 2011, Algorithm 2)."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.arms import Judged
from stream.compiled import kernel

_GRID = 256
# Click rates are small, so the grid is dense near 0: squares of even steps.
_EDGES = np.linspace(0.0, 1.0, _GRID + 1) ** 2
_RATE = (_EDGES[1:] + _EDGES[:-1]) / 2
_LOG_RATE, _LOG_REST, _WIDTH = np.log(_RATE), np.log1p(-_RATE), np.diff(_EDGES)
_NEGLIGIBLE = 36.0  # log of how much less likely a rate may be than the likeliest
_LEAST, _MOST = 1e-4, 1e7  # bounds of what a Beta's parameters may be


def chances(clicks: np.ndarray, shown: np.ndarray, base_rate: float, strength: float = 4.0) -> np.ndarray:
    """Probability that each arm has the greatest click rate, (n,) float64, sums to 1: what a Thompson draw would pick.

    Computed on a grid instead of drawn, so that the propensity which is logged is the one that is used. The prior is
    Beta(strength · base_rate, strength · (1 - base_rate)).

    >>> chances(np.array([5.0, 5.0]), np.array([10.0, 10.0]), 0.5).tolist()
    [0.5, 0.5]
    """
    base = min(max(base_rate, 1e-3), 0.999)
    return _greatest(clicks + strength * base, np.maximum(shown - clicks, 0.0) + strength * (1 - base))


def _greatest(alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Probability that each of n Beta draws is the greatest, (n,) float64."""
    best = np.zeros(alpha.size)
    _weigh(alpha, beta, _LOG_RATE, _LOG_REST, _WIDTH, best)
    return best


@kernel
def _weigh(
    alpha: np.ndarray, beta: np.ndarray, log_rate: np.ndarray, log_rest: np.ndarray, width: np.ndarray, best: np.ndarray
) -> None:
    """Sum over the grid of: this one is here, and all others are below."""
    n, cells = alpha.size, width.size
    mass, below = np.empty((n, cells)), np.empty((n, cells))
    together = np.zeros(cells)
    for i in range(n):
        top, total, under = -np.inf, 0.0, 0.0
        for c in range(cells):
            mass[i, c] = (alpha[i] - 1.0) * log_rate[c] + (beta[i] - 1.0) * log_rest[c]
            top = max(top, mass[i, c])
        for c in range(cells):
            likely = mass[i, c] - top > -_NEGLIGIBLE  # of most cells of the grid there is nothing to reckon
            mass[i, c] = np.exp(mass[i, c] - top) * width[c] if likely else 0.0
            total += mass[i, c]
        passed = np.log(1e-300)  # log of `under`
        for c in range(cells):
            below[i, c] = passed
            if mass[i, c] > 0.0:
                mass[i, c] /= total
                # Half of a cell counts as below it, so that equal arms tie fairly.
                below[i, c] = np.log(under + mass[i, c] / 2.0)
                under += mass[i, c]
                passed = np.log(under)
            together[c] += below[i, c]
    whole = 0.0
    for i in range(n):
        for c in range(cells):
            if mass[i, c] > 0.0:
                best[i] += mass[i, c] * np.exp(together[c] - below[i, c])
        whole += best[i]
    for i in range(n):
        best[i] /= whole


@dataclass(frozen=True, slots=True)
class Thompson:
    """The same for what any bandit thinks of rates: the Betas that have these means and spreads.

    For a `Beta` bandit they are its posteriors; for others, draws that stay between 0 and 1.
    """

    def weigh(self, judged: Judged) -> np.ndarray:
        means = np.clip(judged.means, _LEAST, 1 - _LEAST)
        variance = np.maximum(judged.spreads, 1e-9) ** 2
        strength = np.clip(means * (1 - means) / variance - 1, _LEAST, _MOST)
        return _greatest(means * strength, (1 - means) * strength)
