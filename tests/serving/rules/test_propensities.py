"""Propensities within pins and caps are the frequencies given the positions above."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from online_models.bandits.slate_sampling import SlateConstraints
from serving.exploration.slate_filling import ExplorationArms, fill

NO_GROUPS = np.full((7, 1), -1)
PAIRS = np.array([[0], [0], [1], [1], [2], [0], [1]])
CASES = {
    "pin at the top": ({0: 4}, NO_GROUPS, [9]),
    "pin below draws": ({2: 0}, NO_GROUPS, [9]),
    "pin of an item that is explored": ({1: 5}, NO_GROUPS, [9]),
    "one item per group": ({}, PAIRS, [1, 1, 1]),
    "pin that fills a group": ({2: 6}, PAIRS, [2, 1, 1]),
}


@pytest.mark.parametrize("exploration_rate", [0.3, 1.0])
@pytest.mark.parametrize(("pins", "groups", "room"), CASES.values(), ids=CASES.keys())
def test_propensity_is_the_frequency_given_the_items_above(
    pins: dict[int, int], groups: np.ndarray, room: list[int], exploration_rate: float
) -> None:
    rng, first = np.random.default_rng(5), 100
    pinned = np.full(3, -1)
    pinned[list(pins)] = [first + item for item in pins.values()]
    constraints = SlateConstraints(pinned, first, groups.astype(np.int32), np.array(room))
    arms = ExplorationArms(first + np.array([1, 5, 6]), np.array([0.5, 0.3, 0.2]), exploration_rate)
    ranking = first + np.arange(7)
    counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    propensities: dict[tuple[int, ...], dict[int, set[float]]] = defaultdict(lambda: defaultdict(set))
    for _ in range(4000):
        selection = fill(ranking, arms, 3, rng, constraints).selection
        rows = (selection.rows - first).tolist()
        assert {position: rows[position] for position in pins} == pins
        assert (np.bincount(groups[rows][groups[rows] >= 0], minlength=len(room)) <= room).all()
        for position, row in enumerate(rows):
            counts[tuple(rows[:position])][row] += 1
            propensities[tuple(rows[:position])][row].add(round(float(selection.propensities[position]), 12))

    for above, drawn in counts.items():
        expected = {row: propensities[above][row].pop() for row in drawn}
        assert not any(propensities[above].values())
        for row, count in drawn.items():
            spread = (expected[row] * (1 - expected[row]) / drawn.total()) ** 0.5
            assert abs(count / drawn.total() - expected[row]) < 4.5 * spread + 1e-9


def test_pins_beyond_a_short_slate_move_up() -> None:
    constraints = SlateConstraints(np.array([-1, -1, -1, 0]), 0, np.zeros((2, 0), np.int32), np.zeros(0, np.int64))

    selection = fill(
        np.array([0, 1]), ExplorationArms(np.zeros(0, np.int64), np.zeros(0)), 4, np.random.default_rng(0), constraints
    ).selection

    assert selection.rows.tolist() == [1, 0]
    assert selection.propensities.tolist() == [1, 1]
