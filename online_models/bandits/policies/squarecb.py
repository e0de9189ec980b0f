"""SquareCB: an arm's probability falls with its distance from the best."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior


@dataclass(frozen=True, slots=True)
class SquareCB:
    """Inverse gap weighting: an arm gets 1 / (n + gamma · gap), the best arm the rest.

    Foster and Rakhlin 2020, Algorithm 1. It ignores standard deviations. In the paper gamma grows with the square root
    of the number of rounds. Here it is a setting, because exploration never ends in a world that changes.

    >>> SquareCB(gamma=10.0).probabilities(Posterior(np.array([0.5, 0.2]), np.zeros(2))).round(3).tolist()
    [0.8, 0.2]
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
