"""From what is thought of arms to a slate, with the probability that each arm came to its place."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_MAX_ABS = 1e6  # mean or spread that a rule is asked about


class ChoiceRule(Protocol):
    """How likely each arm is to be chosen: one algorithm. It holds no state and draws nothing."""

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        """(n,) float64, not negative, sums to 1; n is at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class ProbabilityBounds:
    """What a chance may be: the floor bounds the weight of an outcome, the cap keeps something to compare with."""

    floor: float = 1e-5  # 1 / n for more arms than 1 / floor
    cap: float = 1.0  # 1 for a single arm

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 0.5:
            raise ValueError(f"floor must be above 0 and at most 0.5, got {self.floor}")
        if not 0.5 <= self.cap <= 1:
            raise ValueError(f"cap must be from 0.5 to 1, got {self.cap}")


@dataclass(frozen=True, slots=True)
class Selection:
    """A slate: per place the item, the probability that it came there given the places above, and whether by chance."""

    rows: np.ndarray  # (k,) int32
    propensities: np.ndarray  # (k,) float64
    explored: np.ndarray  # (k,) bool


@kernel
def _are_valid(means: np.ndarray, stds: np.ndarray) -> bool:
    valid = True
    for i in range(means.size):
        valid = valid and abs(means[i]) <= _MAX_ABS and 0.0 <= stds[i] <= _MAX_ABS
    return valid


@kernel
def _apply_bounds(probabilities: np.ndarray, floor: float, cap: float) -> None:
    """Mix with the uniform distribution as far as the floor asks; then take from the greatest what the cap forbids."""
    n = probabilities.size
    if n == 0:
        return
    uniform_share = min(1.0, n * floor)
    top = 0
    for i in range(n):
        probabilities[i] = uniform_share / n + (1.0 - uniform_share) * probabilities[i]
        if probabilities[i] > probabilities[top]:
            top = i
    if n > 1 and probabilities[top] > cap:
        rest = 0.0
        for i in range(n):
            rest += probabilities[i] if i != top else 0.0
        for i in range(n):
            probabilities[i] *= (1.0 - cap) / rest
        probabilities[top] = cap


@kernel
def _draw(
    probabilities: np.ndarray, means: np.ndarray, floor: float, cap: float, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arms one after another, by their bounded chances among those that are left."""
    _apply_bounds(probabilities, floor, cap)
    n, k = probabilities.size, uniforms.size
    available = np.ones(n, np.bool_)
    rows, propensities, explored = np.empty(k, np.int32), np.empty(k), np.empty(k, np.bool_)
    for position in range(uniforms.size):
        total, best = 0.0, -1
        for i in range(n):
            if available[i]:
                total += probabilities[i]
                if best < 0 or means[i] > means[best]:
                    best = i
        remainder, arm = uniforms[position] * total, -1
        for i in range(n):
            if available[i]:
                arm = i
                remainder -= probabilities[i]
                if remainder < 0.0:
                    break
        available[arm] = False
        rows[position] = arm
        propensities[position] = min(1.0, probabilities[arm] / total)
        explored[position] = means[arm] < means[best]
    return rows, propensities, explored


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule within bounds. Its propensities are exact: the numbers that are logged are those that are drawn by."""

    rule: ChoiceRule
    bounds: ProbabilityBounds = field(default_factory=ProbabilityBounds)

    def probabilities(self, posterior: Posterior) -> np.ndarray:
        """How likely each arm is to be chosen, (n,) float64 in (0, 1], sums to 1; for `fill` and for `choose`."""
        probabilities = self._rule_probabilities(posterior)
        _apply_bounds(probabilities, self.bounds.floor, self.bounds.cap)
        return probabilities

    def choose(self, posterior: Posterior, k: int, rng: np.random.Generator) -> Selection:
        """Up to k different arms, as places in `judged`; a draw without replacement by `chances`."""
        probabilities, bounds = self._rule_probabilities(posterior), self.bounds
        uniforms = rng.random(min(k, probabilities.size))
        return Selection(*_draw(probabilities, posterior.means, bounds.floor, bounds.cap, uniforms))

    def _rule_probabilities(self, posterior: Posterior) -> np.ndarray:
        if posterior.means.size == 0:
            return np.zeros(0)
        # Nothing is known of arms whose judgement is no number: all are equal then.
        if not _are_valid(posterior.means, posterior.stds):
            return np.full(posterior.means.size, 1 / posterior.means.size)
        return self.rule.probabilities(posterior)
