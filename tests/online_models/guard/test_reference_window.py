"""Shifts of many features at once are what they are of each by itself."""

import numpy as np
import pytest

from online_models.guard.reference_window import BUCKETS, count_into, ks_by_feature, psi_by_feature, quantile_edges
from online_models.guard.robust_stats import psi


def counted(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.zeros((rows.shape[1], BUCKETS), np.int32)
    count_into(rows.astype(np.float32), edges, counts)
    return counts


def columns(*values: np.ndarray) -> np.ndarray:
    return np.stack(values, axis=1).astype(np.float32)


def test_buckets_hold_as_many_rows_each() -> None:
    rows = np.random.default_rng(0).normal(size=(10_000, 3)).astype(np.float32)

    assert np.abs(counted(rows, quantile_edges(rows)) - 1_000).max() <= 1


def test_a_value_that_most_rows_have_gets_a_bucket_of_its_own() -> None:
    rows = columns(np.where(np.arange(100) < 80, 0.0, np.arange(100)))
    edges = quantile_edges(rows)

    assert counted(rows, edges)[0].max() == 80
    assert counted(np.full((10, 1), -1.0), edges)[0, 0] == 10
    assert counted(np.zeros((10, 1)), edges)[0].argmax() not in (0, BUCKETS - 1)


def test_what_is_constant_is_told_from_what_is_above_and_below() -> None:
    edges = quantile_edges(columns(np.full(50, 3.0)))

    assert [int(counted(np.full((1, 1), value), edges)[0].argmax()) for value in (2.9, 3.0, 3.1)] == [0, 1, 9]


def test_psi_of_many_is_that_of_each() -> None:
    one, other = np.random.default_rng(1).integers(0, 50, (2, 6, BUCKETS))

    assert psi_by_feature(one, other) == pytest.approx([psi(a, b) for a, b in zip(one, other, strict=True)])


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_the_distance_is_that_of_the_values_but_for_what_lies_between_edges(shift: float) -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(5_000, 1)), shift + rng.normal(size=(4_000, 1))
    edges = quantile_edges(one.astype(np.float32))
    at = np.sort(np.concatenate([one, other]).ravel())
    exact = np.abs(
        np.searchsorted(np.sort(one.ravel()), at, "right") / one.size
        - np.searchsorted(np.sort(other.ravel()), at, "right") / other.size
    ).max()
    [binned] = ks_by_feature(counted(one, edges), counted(other, edges))

    assert exact - 0.1 <= binned <= exact + 1e-9
