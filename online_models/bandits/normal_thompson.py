"""Thompson sampling over normal posteriors: with a `Disjoint` or `Hybrid` bandit this is linear Thompson sampling."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.arms import Judged
from stream.compiled import kernel

_CELLS = 256
_FAR = 6.0  # spreads beyond which a draw is not expected


@kernel
def _below(edge: float, mean: float, spread: float) -> float:
    """Probability that a draw is below the edge."""
    return 0.5 * math.erfc((mean - edge) / (spread * math.sqrt(2.0)))


@kernel
def _weigh(means: np.ndarray, spreads: np.ndarray) -> np.ndarray:
    """Probability that each arm's draw is the greatest, on a grid over where the greatest draw can be."""
    n = means.size
    low, high = -np.inf, -np.inf
    for i in range(n):
        low, high = max(low, means[i] - _FAR * spreads[i]), max(high, means[i] + _FAR * spreads[i])
    step = (high - low) / _CELLS
    all_below, mass, below = np.zeros(_CELLS), np.zeros((n, _CELLS)), np.zeros((n, _CELLS))
    for i in range(n):
        if means[i] + _FAR * spreads[i] < low:
            continue
        # What is below the grid is never the greatest; what is above it belongs to the last cell.
        before = _below(low, means[i], spreads[i])
        for cell in range(_CELLS):
            if low + cell * step > means[i] + _FAR * spreads[i]:
                break  # from here on a draw is always below
            after = _below(low + (cell + 1) * step, means[i], spreads[i]) if cell < _CELLS - 1 else 1.0
            mass[i, cell] = after - before
            # Half of a cell counts as below it, so that equal arms tie fairly.
            below[i, cell] = math.log(max(0.5 * (before + after), 1e-300))
            all_below[cell] += below[i, cell]
            before = after
    chances, total = np.zeros(n), 0.0
    for i in range(n):
        for cell in range(_CELLS):
            if mass[i, cell] > 0.0:
                chances[i] += mass[i, cell] * math.exp(all_below[cell] - below[i, cell])
        total += chances[i]
    return chances / total


@dataclass(frozen=True, slots=True)
class NormalThompson:
    """How likely each arm's draw is the greatest (Agrawal and Goyal 2013, Algorithm 1), computed instead of drawn.

    So the propensity that is logged is the one that is used. `scale` widens the spreads: v of the paper.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.scale < math.inf:
            raise ValueError(f"scale must be a positive number, got {self.scale}")

    def weigh(self, judged: Judged) -> np.ndarray:
        return _weigh(judged.means, np.maximum(self.scale * judged.spreads, 1e-12))
