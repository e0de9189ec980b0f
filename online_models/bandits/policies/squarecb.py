"""SquareCB: an arm's chance is inverse to how far it is behind the best."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior


@dataclass(frozen=True, slots=True)
class SquareCB:
    """Inverse gap weighting (Foster and Rakhlin 2020, Algorithm 1): 1 / (n + gamma · gap), the rest to the best.

    Knows nothing of spreads. In the paper gamma grows with the square root of the rounds; here it is a setting,
    because a world that moves is never done being explored.
    """

    gamma: float = 1_000.0

    def __post_init__(self) -> None:
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be a finite number that is not negative, got {self.gamma}")

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        best = int(posterior.means.argmax())
        probabilities: np.ndarray = 1 / (posterior.means.size + self.gamma * (posterior.means[best] - posterior.means))
        probabilities[best] = 0.0
        probabilities[best] = 1 - probabilities.sum()
        return probabilities
