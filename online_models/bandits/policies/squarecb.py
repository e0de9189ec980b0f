"""SquareCB: an arm's chance is inverse to how far it is behind the best."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Judged


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

    def weigh(self, judged: Judged) -> np.ndarray:
        best = int(judged.means.argmax())
        chances: np.ndarray = 1 / (judged.means.size + self.gamma * (judged.means[best] - judged.means))
        chances[best] = 0.0
        chances[best] = 1 - chances.sum()
        return chances
