"""Fill a slate with the best items and, at a known probability, with items to explore."""

from dataclasses import dataclass, field

import numpy as np

from online_models.bandits.protocols import Posterior
from online_models.bandits.slate_sampling import (
    Selection,
    SlateConstraints,
    sample_constrained_slate,
    sample_slate,
)
from stream.jit import as_tuple

_EMPTY = np.zeros(0)
_EMPTY_POSTERIOR = Posterior(_EMPTY, _EMPTY)


@dataclass(frozen=True, slots=True)
class ExplorationArms:
    """Items that one slate may explore, with the probability of each in one draw."""

    rows: np.ndarray  # (n,) int64, entries of the ranking
    probabilities: np.ndarray  # (n,) float64, sums to 1
    exploration_rate: float = 0.0  # share of positions that are drawn
    expected_regret: float = 0.0  # clicks lost per drawn position
    ranker_probabilities: np.ndarray = field(default_factory=lambda: _EMPTY)  # (n,) float64, without own counts
    posteriors: Posterior = field(default_factory=lambda: _EMPTY_POSTERIOR)  # (n,) each, by which items are drawn


@dataclass(frozen=True, slots=True)
class FilledSlate:
    """A slate of k items, with probabilities of all outcomes for the propensity audit."""

    selection: Selection
    probabilities: np.ndarray  # (k, n + 1) float64: of each arm, then of the next best that is not an arm
    arm_indices: np.ndarray  # (k,) int64, the outcome of each position


NO_ARMS = ExplorationArms(np.zeros(0, np.int64), _EMPTY)


def fill(
    ranking: np.ndarray,
    exploration_arms: ExplorationArms,
    k: int,
    rng: np.random.Generator,
    constraints: SlateConstraints | None = None,
) -> FilledSlate:
    """Fill k positions with the next best item or, at `exploration_rate`, with a drawn arm.

    At most ceil(exploration_rate · k) positions go to an item other than the next best, which bounds the cost. A draw
    that returns the next best does not count as exploration. Otherwise the positions below would depend on a draw that
    the log does not show, and a propensity would not be the probability given the positions above.

    >>> filled = fill(np.array([3, 1]), NO_ARMS, 2, np.random.default_rng(0))
    >>> filled.selection.rows.tolist(), filled.selection.propensities.tolist()
    ([3, 1], [1.0, 1.0])
    """
    arms, exploration_rate = exploration_arms, exploration_arms.exploration_rate
    budget = int(np.ceil(exploration_rate * k)) if exploration_rate else 0
    inputs = ranking, arms.rows, arms.probabilities, exploration_rate, budget, rng.random((k, 2))
    rows, explored, probabilities, arm_indices, propensities = (
        sample_slate(*inputs) if constraints is None else sample_constrained_slate(*inputs, as_tuple(constraints))
    )
    return FilledSlate(Selection(rows, propensities, explored), probabilities, arm_indices)
