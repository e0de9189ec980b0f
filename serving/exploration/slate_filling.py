"""Fills a slate: the best by rank, with some places given to fresh items by chance that is known."""

from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.policies.policy import Selection
from online_models.bandits.protocols import Posterior
from stream.jit import kernel

_EMPTY = np.zeros(0)


@dataclass(frozen=True, slots=True)
class ExplorationArms:
    """Items that have not yet had their share of impressions, and how likely each is to be drawn of them."""

    rows: np.ndarray  # (n,) int64, as in what is ranked
    probabilities: np.ndarray  # (n,) float64, sums to 1
    exploration_rate: float = 0.0  # of the places, that may be drawn
    expected_regret: float = 0.0  # clicks that each drawn place is expected to lose
    ranker_probabilities: np.ndarray = field(
        default_factory=lambda: _EMPTY
    )  # (n,) float64, means before their own counts spoke
    posteriors: Posterior = field(
        default_factory=lambda: Posterior(_EMPTY, _EMPTY)
    )  # of n items, by which they are drawn


@dataclass(frozen=True, slots=True)
class FilledSlate:
    """A slate, and how likely whatever could have come to each place was: what its propensities are proved by."""

    selection: Selection
    probabilities: np.ndarray  # (k, n + 1) float64: of each fresh item, and of the next best that is not one
    arm_indices: np.ndarray  # (k,) int64, which of those came


NO_ARMS = ExplorationArms(np.zeros(0, np.int64), _EMPTY)


@kernel
def _select_least_shown(
    impressions: np.ndarray, eligible: np.ndarray, rows_by_count: np.ndarray, sizes: np.ndarray
) -> None:
    """The newest rows of each number of impressions; ends as soon as nothing better can come."""
    for row in range(impressions.size - 1, -1, -1):
        count = impressions[row]
        if count < sizes.size and eligible[row] and sizes[count] < rows_by_count.shape[1]:
            rows_by_count[count, sizes[count]] = row
            sizes[count] += 1
            if sizes[0] == rows_by_count.shape[1]:
                return


def select_least_shown(impressions: np.ndarray, eligible: np.ndarray, budget: int, count: int) -> np.ndarray:
    """Rows of up to `count` eligible items that were shown less than `budget` times, least first, of equals the newest.

    `shown` is by row, (n,) int32.

    >>> select_least_shown(np.array([0, 9, 1, 0], np.int32), np.ones(4, np.uint8), budget=5, count=3).tolist()
    [3, 0, 2]
    """
    rows_by_count, sizes = np.empty((budget, count), np.int32), np.zeros(budget, np.int64)
    _select_least_shown(impressions, eligible, rows_by_count, sizes)
    rows: np.ndarray = rows_by_count[np.arange(count) < sizes[:, None]][:count]
    return rows


def fill(ranking: np.ndarray, exploration_arms: ExplorationArms, k: int, rng: np.random.Generator) -> FilledSlate:
    """Give each of k places to the next best item or, with the probability `fresh.share`, to a fresh one.

    At most ceil(share · k) places go to another item than the next best, so that what exploring costs is bounded. A
    draw that comes out as the next best is no exploring: else the places below would hang on a draw that nobody sees,
    and a propensity would not be the probability given the places above.

    >>> chosen = fill(np.array([3, 1]), NO_ARMS, 2, np.random.default_rng(0))
    >>> chosen.selection.rows.tolist(), chosen.selection.propensities.tolist()
    ([3, 1], [1.0, 1.0])
    """
    exploration_rate = exploration_arms.exploration_rate
    budget = int(np.ceil(exploration_rate * k)) if exploration_rate else 0
    rows, explored, probabilities, arm_indices, propensities = _fill(
        ranking, exploration_arms.rows, exploration_arms.probabilities, exploration_rate, budget, rng.random((k, 2))
    )
    return FilledSlate(Selection(rows, propensities, explored), probabilities, arm_indices)


@kernel
def _fill(
    ranking: np.ndarray,
    arm_rows: np.ndarray,
    arm_probabilities: np.ndarray,
    exploration_rate: float,
    budget: int,
    uniforms: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Fill the places. Two draws a place: whether by chance, and which."""
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
    """The entry in which `at`, from 0 to the sum of all, lies."""
    last = -1
    for i in range(weights.size):
        if weights[i] > 0.0:
            last = i
            target -= weights[i]
            if target < 0.0:
                return i
    return last
