"""What to think of an arm that nobody tried, from its neighbours, the ranker and the general rate."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.arms import Judged, Prior


@dataclass(frozen=True, slots=True)
class WarmStart:
    """How far what we are told of a cold arm may be from its true mean: standard deviations, as shares of a rate."""

    general: float = 1.0  # of any arm around the general rate
    ranker: float = 0.5  # of the ranker's prediction for an item that nobody was shown
    neighbour: float = 0.7  # of a neighbour with similarity 0; less by the root of what is alike
    least: float = 0.2  # no prior is surer than this: what tells of an arm errs together

    def __post_init__(self) -> None:
        for name in ("general", "ranker", "neighbour", "least"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive share of a rate, got {getattr(self, name)}")

    def prior_of_ranker(self, rate: float, told: Judged) -> Prior:
        """Priors of n arms without neighbours: what is told of each by the ranker, or on top of it by another model.

        How unsure who tells is of it comes on top of how far an item may be from what is told.

        >>> told = Judged(np.array([0.15, 0.15]), np.array([0.0, 1.0]))
        >>> WarmStart().prior_of_ranker(0.05, told).means.round(3).tolist()
        [0.13, 0.05]
        """
        scale = max(rate, 1e-4)
        general, ranker = (self.general * scale) ** -2, 1 / ((self.ranker * scale) ** 2 + told.spreads**2)
        means = np.clip((general * rate + ranker * told.means) / (general + ranker), 0, 1)
        return Prior(means, np.maximum((general + ranker) ** -0.5, self.least * scale))

    def prior(
        self, rate: float, predicted: np.ndarray, similarity: np.ndarray, means: np.ndarray, spreads: np.ndarray
    ) -> Prior:
        """Priors of n arms: all that is told, weighted by its precision.

        `rate`: of all arms; `predicted`: (n,) the ranker's probability, NaN = none; of m neighbours each, (n, m):
        `similarity` from 0 to 1 (NaN = no neighbour), posterior `means` and `spreads`.

        >>> told = np.array([[0.9, np.nan]]), np.array([[0.3, 0.0]]), np.array([[0.01, 0.0]])
        >>> prior = WarmStart().prior(0.1, np.array([np.nan]), *told)
        >>> prior.means.round(2).tolist(), prior.spreads.round(3).tolist()
        ([0.29], [0.024])
        """
        scale = max(rate, 1e-4)
        alike = np.sqrt(1 - np.clip(np.nan_to_num(similarity), 0, 1))
        general, said = (self.general * scale) ** -2, ~np.isnan(predicted)
        ranker = said * (self.ranker * scale) ** -2
        total = general + ranker
        told = general * rate + ranker * np.where(said, predicted, 0)
        if similarity.size:
            near = 1 / ((self.neighbour * scale * alike) ** 2 + spreads**2 + 1e-12)
            near = np.where(np.isnan(similarity), 0, near)
            total, told = total + near.sum(axis=1), told + (near * np.nan_to_num(means)).sum(axis=1)
        return Prior(np.clip(told / total, 0, 1), np.maximum(total**-0.5, self.least * scale))


def posterior(prior: Prior, clicks: np.ndarray, shown: np.ndarray) -> Judged:
    """What is thought of n arms after so many clicks of so many places: the prior as a Beta, and the counts upon it.

    >>> judged = posterior(Prior(np.array([0.5]), np.array([0.2])), np.array([90.0]), np.array([100.0]))
    >>> judged.means.round(2).tolist()
    [0.88]
    """
    mean = np.clip(prior.means, 1e-4, 1 - 1e-4)
    strength = np.maximum(mean * (1 - mean) / np.maximum(prior.spreads, 1e-6) ** 2 - 1, 0.1)
    hits, total = mean * strength + clicks, strength + shown
    means = hits / total
    return Judged(means, np.sqrt(means * (1 - means) / (total + 1)))


def narrowed(predicted: np.ndarray, spreads: np.ndarray, shown: np.ndarray) -> Judged:
    """What is thought of n arms that the ranker knows: its word for this person, surer with every place shown.

    >>> judged = narrowed(np.array([0.1, 0.1]), np.array([0.1, 0.1]), np.array([0.0, 900.0]))
    >>> judged.means.tolist(), judged.spreads.round(3).tolist()
    ([0.1, 0.1], [0.1, 0.01])
    """
    means = np.clip(predicted, 1e-4, 1 - 1e-4)
    variance = means * (1 - means)
    places = np.maximum(variance / np.maximum(spreads, 1e-6) ** 2, 1.0)
    return Judged(means, np.sqrt(variance / (places + shown)))
