"""From what is thought of arms to a slate, with the probability that each arm came to its place."""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from online_models.bandits.protocols import Judged
from stream.jit import kernel

_GREATEST = 1e6  # mean or spread that a rule is asked about


class Rule(Protocol):
    """How likely each arm is to be chosen: one algorithm. It holds no state and draws nothing."""

    def weigh(self, judged: Judged) -> np.ndarray:
        """(n,) float64, not negative, sums to 1; n is at least 1."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a chance may be: the floor bounds the weight of an outcome, the cap keeps something to compare with."""

    floor: float = 1e-5  # 1 / n for more arms than 1 / floor
    cap: float = 1.0  # 1 for a single arm

    def __post_init__(self) -> None:
        if not 0 < self.floor <= 0.5:
            raise ValueError(f"floor must be above 0 and at most 0.5, got {self.floor}")
        if not 0.5 <= self.cap <= 1:
            raise ValueError(f"cap must be from 0.5 to 1, got {self.cap}")


@dataclass(frozen=True, slots=True)
class Placed:
    """A slate: per place the item, the probability that it came there given the places above, and whether by chance."""

    rows: np.ndarray  # (k,) int32
    propensities: np.ndarray  # (k,) float64
    explored: np.ndarray  # (k,) bool


@kernel
def _are_sound(means: np.ndarray, spreads: np.ndarray) -> bool:
    sound = True
    for i in range(means.size):
        sound = sound and abs(means[i]) <= _GREATEST and 0.0 <= spreads[i] <= _GREATEST
    return sound


@kernel
def _bound(chances: np.ndarray, floor: float, cap: float) -> None:
    """Mix with the uniform distribution as far as the floor asks; then take from the greatest what the cap forbids."""
    n = chances.size
    if n == 0:
        return
    mixed = min(1.0, n * floor)
    top = 0
    for i in range(n):
        chances[i] = mixed / n + (1.0 - mixed) * chances[i]
        if chances[i] > chances[top]:
            top = i
    if n > 1 and chances[top] > cap:
        rest = 0.0
        for i in range(n):
            rest += chances[i] if i != top else 0.0
        for i in range(n):
            chances[i] *= (1.0 - cap) / rest
        chances[top] = cap


@kernel
def _draw(
    chances: np.ndarray, means: np.ndarray, floor: float, cap: float, uniforms: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Arms one after another, by their bounded chances among those that are left."""
    _bound(chances, floor, cap)
    n, k = chances.size, uniforms.size
    left = np.ones(n, np.bool_)
    rows, propensities, explored = np.empty(k, np.int32), np.empty(k), np.empty(k, np.bool_)
    for place in range(uniforms.size):
        total, best = 0.0, -1
        for i in range(n):
            if left[i]:
                total += chances[i]
                if best < 0 or means[i] > means[best]:
                    best = i
        at, chosen = uniforms[place] * total, -1
        for i in range(n):
            if left[i]:
                chosen = i
                at -= chances[i]
                if at < 0.0:
                    break
        left[chosen] = False
        rows[place] = chosen
        propensities[place] = min(1.0, chances[chosen] / total)
        explored[place] = means[chosen] < means[best]
    return rows, propensities, explored


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule within bounds. Its propensities are exact: the numbers that are logged are those that are drawn by."""

    rule: Rule
    bounds: Bounds = field(default_factory=Bounds)

    def chances(self, judged: Judged) -> np.ndarray:
        """How likely each arm is to be chosen, (n,) float64 in (0, 1], sums to 1; for `fill` and for `choose`."""
        chances = self._weigh(judged)
        _bound(chances, self.bounds.floor, self.bounds.cap)
        return chances

    def choose(self, judged: Judged, k: int, rng: np.random.Generator) -> Placed:
        """Up to k different arms, as places in `judged`; a draw without replacement by `chances`."""
        chances, bounds = self._weigh(judged), self.bounds
        uniforms = rng.random(min(k, chances.size))
        return Placed(*_draw(chances, judged.means, bounds.floor, bounds.cap, uniforms))

    def _weigh(self, judged: Judged) -> np.ndarray:
        if judged.means.size == 0:
            return np.zeros(0)
        # Nothing is known of arms whose judgement is no number: all are equal then.
        if not _are_sound(judged.means, judged.spreads):
            return np.full(judged.means.size, 1 / judged.means.size)
        return self.rule.weigh(judged)
