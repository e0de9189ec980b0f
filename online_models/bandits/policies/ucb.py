"""Upper confidence bounds: with a `Disjoint` or `Hybrid` bandit this is LinUCB."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Judged
from stream.jit import kernel

_FAR = -40.0  # temperatures behind which the floor is all the chance there is


@kernel
def _weigh(means: np.ndarray, spreads: np.ndarray, alpha: float, temperature: float) -> np.ndarray:
    chances = means + alpha * spreads
    top = chances[0]
    for i in range(chances.size):
        top = max(top, chances[i])
    total = 0.0
    for i in range(chances.size):
        behind = (chances[i] - top) / temperature
        chances[i] = math.exp(behind) if behind > _FAR else 0.0
        total += chances[i]
    return chances / total


@dataclass(frozen=True, slots=True)
class UpperBounds:
    """Chooses by mean + alpha · spread (Li et al. 2010, Algorithm 1, line 8), smoothed.

    A softmax over the bounds takes the place of the greatest one, so that every arm has a chance and arms that are as
    good as equal have equal ones.
    """

    alpha: float = 1.0
    temperature: float = 0.01  # in units of reward: an arm this much below the best has 1/e of its chance

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a finite number that is not negative, got {self.alpha}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be a positive number, got {self.temperature}")

    def weigh(self, judged: Judged) -> np.ndarray:
        return _weigh(judged.means, judged.spreads, self.alpha, self.temperature)
