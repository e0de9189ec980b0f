"""Off-policy evaluation: estimate the mean reward of a policy from the log of another one."""

import math
from dataclasses import dataclass

import numpy as np

_Z_SCORES = {0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758}  # two-sided, by confidence


@dataclass(frozen=True, slots=True)
class LoggedDecisions:
    """n logged decisions, with their probabilities under the target policy."""

    reward: np.ndarray  # (n,) float64
    propensity: np.ndarray  # (n,) float64 in (0, 1], of the logged action under the logging policy
    target_propensity: np.ndarray  # (n,) float64 in [0, 1], of the logged action under the target policy

    def __post_init__(self) -> None:
        if not 1 < self.reward.size == self.propensity.size == self.target_propensity.size:
            sizes = self.reward.size, self.propensity.size, self.target_propensity.size
            raise ValueError(
                f"reward, propensity and target_propensity must have the same size, at least 2, got {sizes}"
            )
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise ValueError(f"propensity must be above 0 and at most 1, got {self.propensity.min()}")

    @property
    def weight(self) -> np.ndarray:
        """Importance weights: target over logging probability, (n,) float64."""
        weight: np.ndarray = self.target_propensity / self.propensity
        return weight


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Predicted rewards of the same decisions, by a model that was not trained on them."""

    logged_value: np.ndarray  # (n,) float64, predicted reward of the logged action
    target_value: np.ndarray  # (n,) float64, mean predicted reward under the target policy


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean reward per decision, with a confidence interval."""

    value: float
    low: float
    high: float
    effective_sample_size: float  # Kish (1965): number of on-policy decisions with the same variance


def ips(decisions: LoggedDecisions, confidence: float = 0.95) -> Estimate:
    """Inverse propensity scoring (Horvitz and Thompson 1952): unbiased, with high variance.

    >>> decisions = LoggedDecisions(np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.5), np.array([1.0, 0.0, 1.0, 0.0]))
    >>> ips(decisions).value
    1.0
    """
    return _estimate_mean(decisions.weight * decisions.reward, decisions.weight, confidence)


def snips(decisions: LoggedDecisions, confidence: float = 0.95) -> Estimate:
    """Self-normalized IPS (Swaminathan and Joachims 2015): small bias, in the reward range.

    The interval is that of a ratio of means, by the delta method.
    """
    weight = decisions.weight
    mean = float(weight.mean())
    if mean == 0:
        raise ValueError("the target policy never chooses a logged action: its value cannot be estimated")
    value = float((weight * decisions.reward).mean()) / mean
    return _estimate_mean(value + weight * (decisions.reward - value) / mean, weight, confidence)


def doubly_robust(decisions: LoggedDecisions, model: RewardModel, confidence: float = 0.95) -> Estimate:
    """Doubly robust (Dudík, Langford and Li 2011): a better model gives a narrower interval."""
    return _estimate_mean(
        model.target_value + decisions.weight * (decisions.reward - model.logged_value), decisions.weight, confidence
    )


def _estimate_mean(terms: np.ndarray, weight: np.ndarray, confidence: float) -> Estimate:
    """Mean of n independent terms, with a normal confidence interval."""
    if confidence not in _Z_SCORES:
        raise ValueError(f"confidence must be one of {', '.join(map(str, _Z_SCORES))}, got {confidence}")
    value = float(terms.mean())
    half_width = _Z_SCORES[confidence] * float(terms.std(ddof=1)) / math.sqrt(terms.size)
    sum_of_squares = float(weight @ weight)
    return Estimate(
        value,
        value - half_width,
        value + half_width,
        float(weight.sum()) ** 2 / sum_of_squares if sum_of_squares else 0.0,
    )
