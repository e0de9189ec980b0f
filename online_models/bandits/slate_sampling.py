"""Draw a slate with the exact probability of each item given the positions above."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class Selection:
    """The k items of a slate, with their propensities: probabilities given the positions above."""

    rows: np.ndarray  # (k,) int64
    propensities: np.ndarray  # (k,) float64
    explored: np.ndarray  # (k,) bool, True where another item ranks higher


class SlateConstraints(NamedTuple):
    """Fixed positions, and groups of which a slate takes a limited number.

    Rows are numbered from `first`; each row has up to w groups.
    """

    pinned: np.ndarray  # (p,) int64, row of each position, -1 = none
    first: int
    groups: np.ndarray  # (m, w) int32 by row, -1 = none
    room: np.ndarray  # (g,) int64, most rows of each group in a slate


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
    constraints = (np.empty(0, np.int64), 0, np.empty((0, 0), np.int32), np.empty(0, np.int64))
    return sample_constrained_slate(
        ranking, arm_rows, arm_probabilities, exploration_rate, budget, uniforms, constraints
    )


@kernel
def sample_constrained_slate(
    ranking: np.ndarray,
    arm_rows: np.ndarray,
    arm_probabilities: np.ndarray,
    exploration_rate: float,
    budget: int,
    uniforms: np.ndarray,
    constraints: SlateConstraints,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sample as `sample_slate` does, within `constraints` as a plain tuple.

    A pinned row has its position with probability 1, and counts in its groups from the start. A row is neither next
    best nor drawn once one of its groups is full. Both follow from the positions above, so the propensities are exact.
    A slate that has no other rows left takes the pinned ones of later positions.
    """
    pinned, first, groups, full_room = constraints
    k, remaining, room = uniforms.shape[0], arm_probabilities.copy(), full_room.copy()
    pins = np.full(k, -1, np.int64)
    pins[: min(k, pinned.size)] = pinned[:k]
    for position in range(k):
        if pins[position] >= 0:
            _take_room(groups, room, pins[position] - first)
            for i in range(arm_rows.size):
                if arm_rows[i] == pins[position]:
                    remaining[i] = 0.0
    reserved = pins.copy()
    rows, explored, arm_indices = np.empty(k, np.int64), np.empty(k, np.bool_), np.empty(k, np.int64)
    probabilities, propensities = np.zeros((k, arm_rows.size + 1)), np.empty(k)
    next_best, explored_count, arm_count, size = 0, 0, arm_rows.size, 0
    for position in range(k):
        while next_best < ranking.size and (
            _contains(rows, position, ranking[next_best])
            or _contains(reserved, k, ranking[next_best])
            or not _has_room(groups, room, ranking[next_best] - first)
        ):
            next_best += 1
        for i in range(arm_count if groups.size else 0):
            if not _has_room(groups, room, arm_rows[i] - first):
                remaining[i] = 0.0
        has_best, total = next_best < ranking.size, remaining.sum()
        pin = position
        if not has_best and total <= 0.0:
            while pin < k and pins[pin] < 0:
                pin += 1
            if pin == k:
                break
        if pins[pin] >= 0:
            rows[position], pins[pin] = pins[pin], -1
            explored[position], arm_indices[position] = False, arm_count
            probabilities[position, arm_count], propensities[position] = 1.0, 1.0
            size += 1
            continue
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
        _take_room(groups, room, rows[position] - first)
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
def _has_room(groups: np.ndarray, room: np.ndarray, index: int) -> bool:
    """Return True if no group of a row is full."""
    has_room = True
    for j in range(groups.shape[1]):
        has_room &= groups[index, j] < 0 or room[groups[index, j]] > 0
    return has_room


@kernel
def _take_room(groups: np.ndarray, room: np.ndarray, index: int) -> None:
    for j in range(groups.shape[1]):
        if groups[index, j] >= 0:
            room[groups[index, j]] -= 1


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
