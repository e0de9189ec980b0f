"""What to think of an arm that nobody tried, from its neighbours, the ranker and the general rate."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior, Prior


@dataclass(frozen=True, slots=True)
class WarmStart:
    """How far what we are told of a cold arm may be from its true mean: standard deviations, as shares of a rate.

    An arm lies around what arms like it have in common, and that lies around the general rate: a normal model of two
    levels (Gelman et al. 2013, section 5.4). So many neighbours together tell no more than what they share, and none
    of them is taken for the arm itself.
    """

    general: float = 1.0  # of any arm around the general rate
    ranker: float = 0.5  # of the ranker's prediction for an item that nobody was shown
    neighbor: float = 0.6  # of an arm around what it has in common with those that are quite like it
    floor: float = 0.2  # no prior is surer than this: what tells of an arm errs together

    def __post_init__(self) -> None:
        for name in ("general", "ranker", "neighbor", "floor"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive share of a rate, got {getattr(self, name)}")
        if self.neighbor >= self.general:
            raise ValueError(f"neighbour must be below general, {self.general}, got {self.neighbor}")

    def from_neighbors(self, rate: float, similarity: np.ndarray, neighbors: Posterior) -> Prior:
        """What n arms lie around, from the general `rate` and what became of m neighbours of each.

        `similarity`, (n, m): 1 is quite alike, 0 is no neighbour; `near`: posterior means and spreads of those, (n, m).

        >>> ranker_estimate = np.array([[1.0, 1.0], [0.0, 0.0]]), Posterior(np.full((2, 2), 0.3), np.full((2, 2), 0.01))
        >>> prior = WarmStart().from_neighbors(0.1, *ranker_estimate)
        >>> prior.means.round(2).tolist(), prior.stds.round(2).tolist()
        ([0.26, 0.1], [0.07, 0.1])
        """
        scale = max(rate, 1e-4)
        within_variance, between_variance = (
            (self.neighbor * scale) ** 2,
            (self.general**2 - self.neighbor**2) * scale**2,
        )
        precision = similarity / (within_variance + similarity * neighbors.stds**2)
        total = 1 / between_variance + precision.sum(axis=1)
        means = (rate / between_variance + (precision * neighbors.means).sum(axis=1)) / total
        return Prior(means, np.sqrt(within_variance + 1 / total))

    def uninformed(self, rate: float, n: int) -> Prior:
        """What n arms lie around that are like no other."""
        return Prior(np.full(n, rate), np.full(n, self.general * max(rate, 1e-4)))

    def prior(self, rate: float, neighbor_prior: Prior, ranker_estimate: Posterior) -> Prior:
        """Priors of n arms: what they lie around, and what is told of each by the ranker, or by a model on top of it.

        How unsure who tells is of it comes on top of how far an item may be from what is told.

        >>> ranker_estimate = Posterior(np.array([0.15, 0.15]), np.array([0.0, 1.0]))
        >>> WarmStart().prior(0.05, WarmStart().uninformed(0.05, 2), ranker_estimate).means.round(3).tolist()
        [0.13, 0.05]
        """
        scale = max(rate, 1e-4)
        prior_precision, ranker_precision = (
            neighbor_prior.stds**-2.0,
            1 / ((self.ranker * scale) ** 2 + ranker_estimate.stds**2),
        )
        total = prior_precision + ranker_precision
        means = np.clip(
            (prior_precision * neighbor_prior.means + ranker_precision * ranker_estimate.means) / total, 0, 1
        )
        return Prior(means, np.maximum(total**-0.5, self.floor * scale))


def update_prior(prior: Prior, clicks: np.ndarray, n_shown: np.ndarray) -> Posterior:
    """What is thought of n arms after so many clicks of so many places: the prior as a Beta, and the counts upon it.

    >>> judged = update_prior(Prior(np.array([0.5]), np.array([0.2])), np.array([90.0]), np.array([100.0]))
    >>> judged.means.round(2).tolist()
    [0.88]
    """
    mean = np.clip(prior.means, 1e-4, 1 - 1e-4)
    strength = np.maximum(mean * (1 - mean) / np.maximum(prior.stds, 1e-6) ** 2 - 1, 0.1)
    hits, total = mean * strength + clicks, strength + n_shown
    means = hits / total
    return Posterior(means, np.sqrt(means * (1 - means) / (total + 1)))


def with_impressions(predicted: np.ndarray, stds: np.ndarray, n_shown: np.ndarray) -> Posterior:
    """What is thought of n arms that the ranker knows: its word for this person, surer with every place shown.

    >>> judged = with_impressions(np.array([0.1, 0.1]), np.array([0.1, 0.1]), np.array([0.0, 900.0]))
    >>> judged.means.tolist(), judged.stds.round(3).tolist()
    ([0.1, 0.1], [0.1, 0.01])
    """
    means = np.clip(predicted, 1e-4, 1 - 1e-4)
    variance = means * (1 - means)
    prior_impressions = np.maximum(variance / np.maximum(stds, 1e-6) ** 2, 1.0)
    return Posterior(means, np.sqrt(variance / (prior_impressions + n_shown)))
