"""Draw a slate with the exact probability of each item given the positions above."""

from dataclasses import dataclass

import numpy as np

from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class Selection:
    """The k items of a slate, with their propensities: probabilities given the positions above."""

    rows: np.ndarray  # (k,) int64
    propensities: np.ndarray  # (k,) float64
    explored: np.ndarray  # (k,) bool, True where another item ranks higher


@kernel
def sample_slate(
    ranking: np.ndarray,
    arm_rows: np.ndarray,
    arm_probabilities: np.ndarray,
    exploration_rate: float,
    budget: int,
    uniforms: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows, explored, probabilities of all outcomes, outcome and propensity of each position.

    A position goes to the next best of `ranking` or, with probability `exploration_rate`, to one of the n arms that
    are left, drawn by `arm_probabilities`. Two `uniforms` per position, (k, 2), decide whether to draw and which arm.
    At most `budget` positions go to an item other than the next best. Outcome n is the next best that is not an arm.
    """
    k, remaining = uniforms.shape[0], arm_probabilities.copy()
    rows, explored, arm_indices = np.empty(k, np.int64), np.empty(k, np.bool_), np.empty(k, np.int64)
    probabilities, propensities = np.zeros((k, arm_rows.size + 1)), np.empty(k)
    next_best, explored_count, arm_count, size = 0, 0, arm_rows.size, 0
    for position in range(k):
        while next_best < ranking.size and _contains(rows, position, ranking[next_best]):
            next_best += 1
        has_best, total = next_best < ranking.size, remaining.sum()
        if not has_best and total <= 0.0:
            break
        explore_probability = (exploration_rate if explored_count < budget else 0.0) if has_best else 1.0
        if total <= 0.0:
            explore_probability = 0.0
        best_arm = arm_count
        for i in range(arm_count):
            if has_best and arm_rows[i] == ranking[next_best]:
                best_arm = i
            probabilities[position, i] = explore_probability * (remaining[i] / total) if total > 0.0 else 0.0
        probabilities[position, best_arm] += 1.0 - explore_probability
        is_drawn = uniforms[position, 0] < explore_probability or not has_best
        arm_indices[position] = _sample_index(remaining, uniforms[position, 1] * total) if is_drawn else best_arm
        rows[position] = arm_rows[arm_indices[position]] if arm_indices[position] < arm_count else ranking[next_best]
        if arm_indices[position] < arm_count:
            remaining[arm_indices[position]] = 0.0
        explored[position] = arm_indices[position] != best_arm or not has_best
        explored_count += explored[position]
        propensities[position] = min(1.0, probabilities[position, arm_indices[position]])
        size += 1
    return rows[:size], explored[:size], probabilities[:size], arm_indices[:size], propensities[:size]


@kernel
def _contains(rows: np.ndarray, size: int, row: int) -> bool:
    is_present = False
    for i in range(size):
        is_present |= rows[i] == row
    return is_present


@kernel
def _sample_index(weights: np.ndarray, target: float) -> int:
    """Index in whose share of the cumulative weights `target`, from 0 to their sum, lies."""
    last = -1
    for i in range(weights.size):
        if weights[i] > 0.0:
            last = i
            target -= weights[i]
            if target < 0.0:
                return i
    return last
