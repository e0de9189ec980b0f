"""Slates are filled with exact propensities, within the exploration budget."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.exploration.slate_filling import NO_ARMS, ExplorationArms, fill

CASES = {
    "fresh items at the end": ([0, 1, 2, 3, 4, 5], {4: 0.7, 5: 0.3}),
    "best item is fresh": ([0, 1, 2, 3, 4], {0: 0.5, 3: 0.3, 4: 0.2}),
    "all items are fresh": ([0, 1, 2], {0: 0.2, 1: 0.3, 2: 0.5}),
    "fresh items that are not ranked": ([0, 1], {7: 0.6, 8: 0.4}),
    "one item is fresh": ([0, 1, 2, 3], {2: 1.0}),
}


def make_arms(probabilities: dict[int, float], exploration_rate: float) -> ExplorationArms:
    return ExplorationArms(
        np.array(list(probabilities), np.int32), np.array(list(probabilities.values())), exploration_rate
    )


@pytest.mark.parametrize("exploration_rate", [0.1, 0.5])
@pytest.mark.parametrize(("ranking", "probabilities"), CASES.values(), ids=CASES.keys())
def test_propensity_is_the_frequency_given_the_items_above(
    ranking: list[int], probabilities: dict[int, float], exploration_rate: float
) -> None:
    rng = np.random.default_rng(7)
    drawn_counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    reported: dict[tuple[int, ...], dict[int, set[float]]] = defaultdict(lambda: defaultdict(set))
    for _ in range(6000):
        selection = fill(np.array(ranking), make_arms(probabilities, exploration_rate), 3, rng).selection
        rows = selection.rows.tolist()
        for position, row in enumerate(rows):
            drawn_counts[tuple(rows[:position])][row] += 1
            reported[tuple(rows[:position])][row].add(round(float(selection.propensities[position]), 12))

    for above, counts in drawn_counts.items():
        n = counts.total()
        assert all(len(propensities) == 1 for propensities in reported[above].values())
        expected = {row: propensities.copy().pop() for row, propensities in reported[above].items()}
        for row, count in counts.items():
            assert abs(count / n - expected[row]) < 4.5 * (expected[row] * (1 - expected[row]) / n) ** 0.5 + 1e-9
        if n * min(expected.values()) > 50:
            assert sum(expected.values()) == pytest.approx(1)


@given(
    ranking=st.lists(st.integers(0, 30), unique=True, max_size=20),
    probabilities=st.dictionaries(st.integers(0, 30), st.floats(0, 1), max_size=10),
    k=st.integers(1, 25),
    exploration_rate=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    seed=st.integers(0, 1000),
)
@example(ranking=[0], probabilities={0: 5e-324}, k=1, exploration_rate=0.1, seed=0)
@example(ranking=[0], probabilities={1: 5e-324}, k=2, exploration_rate=0.1, seed=0)
@example(ranking=[], probabilities={1: 5e-324, 2: 0.0}, k=2, exploration_rate=0.3, seed=0)
@example(ranking=[], probabilities={1: 5e-324, 2: 1e-323}, k=2, exploration_rate=0.3, seed=0)
@example(ranking=[], probabilities={1: 5e-324, 2: 1.0}, k=2, exploration_rate=0.3, seed=0)
def test_filled_slate_is_valid(
    ranking: list[int], probabilities: dict[int, float], k: int, exploration_rate: float, seed: int
) -> None:
    filled_slate = fill(
        np.array(ranking, np.int32), make_arms(probabilities, exploration_rate), k, np.random.default_rng(seed)
    )
    selection = filled_slate.selection
    rows = selection.rows.tolist()
    is_ranked = [row in ranking for row in rows]

    assert len(rows) == len(set(rows)) <= k
    assert min(k, len(ranking)) <= len(rows)
    assert set(rows) <= {*ranking, *probabilities}
    assert ((selection.propensities > 0) & (selection.propensities <= 1)).all()
    assert (selection.explored & np.array(is_ranked, np.bool_)).sum() <= np.ceil(exploration_rate * k)
    ranked_rows = [row for row, explored in zip(rows, selection.explored, strict=True) if not explored]
    assert ranked_rows == sorted(ranked_rows, key=ranking.index)
    assert filled_slate.probabilities.sum(axis=1) == pytest.approx(np.ones(len(rows)))


def test_slate_without_arms_is_deterministic() -> None:
    selection = fill(np.array([5, 3, 8]), NO_ARMS, 2, np.random.default_rng(0)).selection

    assert selection.rows.tolist() == [5, 3]
    assert selection.propensities.tolist() == [1, 1]
    assert not selection.explored.any()
