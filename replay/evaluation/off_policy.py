"""What another policy would have earned, from what one policy logged: estimates with intervals."""

import math
from dataclasses import dataclass

import numpy as np

_Z_SCORES = {0.9: 1.6449, 0.95: 1.96, 0.99: 2.5758}  # standard deviations on either side


@dataclass(frozen=True, slots=True)
class LoggedDecisions:
    """n decisions as they were logged, and what the policy in question would have done."""

    reward: np.ndarray  # (n,) float64
    propensity: np.ndarray  # (n,) float64 in (0, 1], of what was chosen, by the policy that logged
    target_propensity: np.ndarray  # (n,) float64 in [0, 1], of what was chosen, by the policy in question

    def __post_init__(self) -> None:
        if not 1 < self.reward.size == self.propensity.size == self.target_propensity.size:
            sizes = self.reward.size, self.propensity.size, self.target_propensity.size
            raise ValueError(f"reward, propensity, chance must be equally many, at least 2, got {sizes}")
        if not ((self.propensity > 0) & (self.propensity <= 1)).all():
            raise ValueError(f"propensity must be above 0 and at most 1, got {self.propensity.min()}")

    @property
    def weight(self) -> np.ndarray:
        """How much more likely the policy in question is to have chosen the same, (n,)."""
        weight: np.ndarray = self.target_propensity / self.propensity
        return weight


@dataclass(frozen=True, slots=True)
class RewardModel:
    """What a model of the reward says of the same decisions: any model, but one that did not learn from them."""

    logged_value: np.ndarray  # (n,) float64, expected reward of what was chosen
    target_value: np.ndarray  # (n,) float64, of what the policy in question would choose: a mean over its chances


@dataclass(frozen=True, slots=True)
class Estimate:
    """Mean reward of a decision, with an interval that holds the truth as often as was asked."""

    value: float
    low: float
    high: float
    effective_sample_size: float  # of the policy's own that would tell as much: Kish's effective number


def ips(decisions: LoggedDecisions, confidence: float = 0.95) -> Estimate:
    """Inverse propensity scoring (Horvitz and Thompson 1952): free of bias, and the wider the rarer the choices.

    >>> decisions = LoggedDecisions(np.array([1.0, 0.0, 1.0, 0.0]), np.full(4, 0.5), np.array([1.0, 0.0, 1.0, 0.0]))
    >>> ips(decisions).value
    1.0
    """
    return _estimate_mean(decisions.weight * decisions.reward, decisions.weight, confidence)


def snips(decisions: LoggedDecisions, confidence: float = 0.95) -> Estimate:
    """Self-normalized (Swaminathan and Joachims 2015): nearly free of bias, within the range of the rewards.

    The interval is that of a ratio of means, by the delta method.
    """
    weight = decisions.weight
    mean = float(weight.mean())
    if mean == 0:
        raise ValueError("the policy in question never chooses what was logged: nothing can be said of it")
    value = float((weight * decisions.reward).mean()) / mean
    return _estimate_mean(value + weight * (decisions.reward - value) / mean, weight, confidence)


def doubly_robust(decisions: LoggedDecisions, model: RewardModel, confidence: float = 0.95) -> Estimate:
    """A model's word, corrected by what was seen (Dudík, Langford and Li 2011): as narrow as the model is good."""
    return _estimate_mean(
        model.target_value + decisions.weight * (decisions.reward - model.logged_value), decisions.weight, confidence
    )


def _estimate_mean(terms: np.ndarray, weight: np.ndarray, confidence: float) -> Estimate:
    """The mean of n independent terms, and as far around it as the central limit theorem says."""
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
