"""Priors of arms without rewards: similar arms, the ranker's prediction, the general rate."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior, Prior


@dataclass(frozen=True, slots=True)
class WarmStart:
    """Standard deviations of a cold arm's mean around each source, as shares of a rate.

    A normal model of two levels (Gelman et al. 2013, section 5.4): an arm varies around a mean that it shares with
    similar arms, and this mean varies around the general rate. So any number of neighbors reveals the shared mean
    only, never the arm itself.
    """

    general: float = 1.0  # of any arm around the general rate
    ranker: float = 0.5  # of an arm without impressions around the ranker's prediction
    neighbor: float = 0.6  # of an arm around the mean that it shares with its closest neighbors
    floor: float = 0.2  # smallest standard deviation of a prior: the sources share their errors

    def __post_init__(self) -> None:
        for name in ("general", "ranker", "neighbor", "floor"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive share of a rate, got {getattr(self, name)}")
        if self.neighbor >= self.general:
            raise ValueError(f"neighbor must be below general, {self.general}, got {self.neighbor}")

    def from_neighbors(self, rate: float, similarity: np.ndarray, neighbors: Posterior) -> Prior:
        """Priors of n arms from the general `rate` and from m neighbors of each.

        `similarity`: (n, m), 1 = alike, 0 = not a neighbor. `neighbors`: posteriors of these, (n, m) each.

        >>> neighbors = Posterior(np.full((2, 2), 0.3), np.full((2, 2), 0.01))
        >>> prior = WarmStart().from_neighbors(0.1, np.array([[1.0, 1.0], [0.0, 0.0]]), neighbors)
        >>> prior.means.round(2).tolist(), prior.stds.round(2).tolist()
        ([0.26, 0.1], [0.07, 0.1])
        """
        scale = max(rate, 1e-4)
        within_variance = (self.neighbor * scale) ** 2
        between_variance = (self.general**2 - self.neighbor**2) * scale**2
        precision = similarity / (within_variance + similarity * neighbors.stds**2)
        total = 1 / between_variance + precision.sum(axis=1)
        means = (rate / between_variance + (precision * neighbors.means).sum(axis=1)) / total
        return Prior(means, np.sqrt(within_variance + 1 / total))

    def uninformed(self, rate: float, n: int) -> Prior:
        """Prior of n arms without neighbors: mean = general rate, std = `general` × rate."""
        return Prior(np.full(n, rate), np.full(n, self.general * max(rate, 1e-4)))

    def prior(self, rate: float, neighbor_prior: Prior, ranker_estimate: Posterior) -> Prior:
        """Combine the neighbors' prior of n arms with the ranker's estimate, corrected or not.

        The variance of the estimate adds to the variance of a true mean around the estimate.

        >>> ranker_estimate = Posterior(np.array([0.15, 0.15]), np.array([0.0, 1.0]))
        >>> WarmStart().prior(0.05, WarmStart().uninformed(0.05, 2), ranker_estimate).means.round(3).tolist()
        [0.13, 0.05]
        """
        scale = max(rate, 1e-4)
        prior_precision = neighbor_prior.stds**-2.0
        ranker_precision = 1 / ((self.ranker * scale) ** 2 + ranker_estimate.stds**2)
        total = prior_precision + ranker_precision
        means = (prior_precision * neighbor_prior.means + ranker_precision * ranker_estimate.means) / total
        return Prior(np.clip(means, 0, 1), np.maximum(total**-0.5, self.floor * scale))


def update_prior(prior: Prior, clicks: np.ndarray, impressions: np.ndarray) -> Posterior:
    """Posterior of n click rates: a Beta with the prior's moments, plus the counts.

    >>> posterior = update_prior(Prior(np.array([0.5]), np.array([0.2])), np.array([90.0]), np.array([100.0]))
    >>> posterior.means.round(2).tolist()
    [0.88]
    """
    mean = np.clip(prior.means, 1e-4, 1 - 1e-4)
    strength = np.maximum(mean * (1 - mean) / np.maximum(prior.stds, 1e-6) ** 2 - 1, 0.1)
    hits, total = mean * strength + clicks, strength + impressions
    means = hits / total
    return Posterior(means, np.sqrt(means * (1 - means) / (total + 1)))


def with_impressions(predicted: np.ndarray, stds: np.ndarray, impressions: np.ndarray) -> Posterior:
    """Posterior of n arms known to the ranker: its prediction, narrower per impression.

    >>> posterior = with_impressions(np.array([0.1, 0.1]), np.array([0.1, 0.1]), np.array([0.0, 900.0]))
    >>> posterior.means.tolist(), posterior.stds.round(3).tolist()
    ([0.1, 0.1], [0.1, 0.01])
    """
    means = np.clip(predicted, 1e-4, 1 - 1e-4)
    variance = means * (1 - means)
    prior_impressions = np.maximum(variance / np.maximum(stds, 1e-6) ** 2, 1.0)
    return Posterior(means, np.sqrt(variance / (prior_impressions + impressions)))
