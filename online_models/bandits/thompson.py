"""Thompson sampling over Beta posteriors of click rates (Thompson 1933; Chapelle and Li 2011, Algorithm 2)."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.arms import Judged

_GRID = 256
# Click rates are small, so the grid is dense near 0: squares of even steps.
_EDGES = np.linspace(0.0, 1.0, _GRID + 1) ** 2
_RATE = (_EDGES[1:] + _EDGES[:-1]) / 2
_LOG_RATE, _LOG_REST, _WIDTH = np.log(_RATE), np.log1p(-_RATE), np.diff(_EDGES)
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
    if alpha.size == 0:
        return np.zeros(0)
    log_density = (alpha[:, None] - 1) * _LOG_RATE + (beta[:, None] - 1) * _LOG_REST
    mass = np.exp(log_density - log_density.max(axis=1, keepdims=True)) * _WIDTH
    mass /= mass.sum(axis=1, keepdims=True)
    # Half of a cell counts as below it, so that equal arms tie fairly.
    below = np.cumsum(mass, axis=1) - mass / 2
    log_below = np.log(np.maximum(below, 1e-300))
    best = (mass * np.exp(log_below.sum(axis=0) - log_below)).sum(axis=1)
    return np.asarray(best / best.sum())


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
