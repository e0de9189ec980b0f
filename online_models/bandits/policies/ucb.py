"""Upper confidence bounds, smoothed; with `DisjointLinear` or `HybridLinear` this is LinUCB."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_MIN_LOGIT = -40.0  # temperatures below the best bound at which the probability counts as zero


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
    """Choose by a softmax over the upper confidence bounds, mean + alpha · standard deviation.

    Li et al. 2010, Algorithm 1, chooses the greatest bound p. The softmax takes its place so that every arm has
    a probability above zero, and nearly equal arms have nearly equal ones.
    """

    alpha: float = 1.0
    temperature: float = 0.01  # in units of reward; an arm this much below the best has 1/e of its probability

    def __post_init__(self) -> None:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be a finite number that is not negative, got {self.alpha}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature must be a positive number, got {self.temperature}")

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        return _compute_probabilities(posterior.means, posterior.stds, self.alpha, self.temperature)
