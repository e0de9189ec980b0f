"""Upper confidence bounds: with a `Disjoint` or `Hybrid` bandit this is LinUCB."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_MIN_LOGIT = -40.0  # temperatures behind which the floor is all the chance there is


@kernel
def _compute_probabilities(means: np.ndarray, stds: np.ndarray, alpha: float, temperature: float) -> np.ndarray:
    probabilities = means + alpha * stds
    top = probabilities[0]
    for i in range(probabilities.size):
        top = max(top, probabilities[i])
    total = 0.0
    for i in range(probabilities.size):
        logit = (probabilities[i] - top) / temperature
        probabilities[i] = math.exp(logit) if logit > _MIN_LOGIT else 0.0
        total += probabilities[i]
    return probabilities / total


@dataclass(frozen=True, slots=True)
class UCB:
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

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        return _compute_probabilities(posterior.means, posterior.stds, self.alpha, self.temperature)
