"""Filling a slate with chance that is known."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from serving.exploration.slate_filling import NOTHING_FRESH, Fresh, fill

CASES = {
    "fresh items at the end": ([0, 1, 2, 3, 4, 5], {4: 0.7, 5: 0.3}),
    "the best is fresh": ([0, 1, 2, 3, 4], {0: 0.5, 3: 0.3, 4: 0.2}),
    "all are fresh": ([0, 1, 2], {0: 0.2, 1: 0.3, 2: 0.5}),
    "fresh items that are not ranked": ([0, 1], {7: 0.6, 8: 0.4}),
    "one is fresh": ([0, 1, 2, 3], {2: 1.0}),
}


def fresh_of(pool: dict[int, float], share: float) -> Fresh:
    return Fresh(np.array(list(pool), np.int32), np.array(list(pool.values())), share)


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize(("ranked", "pool"), CASES.values(), ids=CASES.keys())
def test_a_propensity_is_the_frequency_given_the_places_above(
    ranked: list[int], pool: dict[int, float], share: float
) -> None:
    rng = np.random.default_rng(7)
    came: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
    told: dict[tuple[int, ...], dict[int, set[float]]] = defaultdict(lambda: defaultdict(set))
    for _ in range(6000):
        placed = fill(np.array(ranked), fresh_of(pool, share), 3, rng).placed
        rows = placed.rows.tolist()
        for place, row in enumerate(rows):
            came[tuple(rows[:place])][row] += 1
            told[tuple(rows[:place])][row].add(round(float(placed.propensities[place]), 12))

    for above, counts in came.items():
        n = counts.total()
        assert all(len(propensities) == 1 for propensities in told[above].values())
        expected = {row: propensities.copy().pop() for row, propensities in told[above].items()}
        for row, count in counts.items():
            assert abs(count / n - expected[row]) < 4.5 * (expected[row] * (1 - expected[row]) / n) ** 0.5 + 1e-9
        if n * min(expected.values()) > 50:
            assert sum(expected.values()) == pytest.approx(1)


@given(
    ranked=st.lists(st.integers(0, 30), unique=True, max_size=20),
    pool=st.dictionaries(st.integers(0, 30), st.floats(0, 1), max_size=10),
    k=st.integers(1, 25),
    share=st.sampled_from([0.0, 0.1, 0.3, 0.5]),
    seed=st.integers(0, 1000),
)
@example(ranked=[0], pool={0: 5e-324}, k=1, share=0.1, seed=0)
@example(ranked=[0], pool={1: 5e-324}, k=2, share=0.1, seed=0)
@example(ranked=[], pool={1: 5e-324, 2: 0.0}, k=2, share=0.3, seed=0)
@example(ranked=[], pool={1: 5e-324, 2: 1e-323}, k=2, share=0.3, seed=0)
@example(ranked=[], pool={1: 5e-324, 2: 1.0}, k=2, share=0.3, seed=0)
def test_a_slate_is_sound(ranked: list[int], pool: dict[int, float], k: int, share: float, seed: int) -> None:
    chosen = fill(np.array(ranked, np.int32), fresh_of(pool, share), k, np.random.default_rng(seed))
    placed = chosen.placed
    rows = placed.rows.tolist()
    within = [row in ranked for row in rows]

    assert len(rows) == len(set(rows)) <= k
    assert min(k, len(ranked)) <= len(rows)
    assert set(rows) <= {*ranked, *pool}
    assert ((placed.propensities > 0) & (placed.propensities <= 1)).all()
    assert (placed.explored & np.array(within, np.bool_)).sum() <= np.ceil(share * k)
    kept = [row for row, explored in zip(rows, placed.explored, strict=True) if not explored]
    assert kept == sorted(kept, key=ranked.index)
    assert chosen.told.sum(axis=1) == pytest.approx(np.ones(len(rows)))


def test_without_fresh_items_nothing_is_left_to_chance() -> None:
    placed = fill(np.array([5, 3, 8]), NOTHING_FRESH, 2, np.random.default_rng(0)).placed

    assert placed.rows.tolist() == [5, 3]
    assert placed.propensities.tolist() == [1, 1]
    assert not placed.explored.any()
