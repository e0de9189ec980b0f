"""ε-greedy: the arm with the best mean or, with probability ε, any arm."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """Choose by the mean (Sutton and Barto 2018, section 2.2); ties share the probability.

    >>> EpsilonGreedy(0.2).probabilities(Posterior(np.array([0.5, 0.1]), np.zeros(2))).tolist()
    [0.9, 0.1]
    """

    epsilon: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"epsilon must be from 0 to 1, got {self.epsilon}")

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        best = posterior.means == posterior.means.max()
        probabilities: np.ndarray = (1 - self.epsilon) * best / best.sum() + self.epsilon / best.size
        return probabilities
