"""Histograms and distances of many features equal those of each feature by itself."""

import numpy as np
import pytest

from online_models.guard.reference_window import (
    WindowSettings,
    count_into,
    ks_by_feature,
    psi_by_feature,
    quantile_edges,
)
from online_models.guard.robust_stats import psi

BUCKETS = WindowSettings().buckets


def edges_of(rows: np.ndarray) -> np.ndarray:
    return quantile_edges(rows, BUCKETS)


def count(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.zeros((rows.shape[1], BUCKETS), np.int32)
    count_into(rows.astype(np.float32), edges, counts)
    return counts


def columns(*values: np.ndarray) -> np.ndarray:
    return np.stack(values, axis=1).astype(np.float32)


def test_buckets_hold_equally_many_rows() -> None:
    rows = np.random.default_rng(0).normal(size=(10_000, 3)).astype(np.float32)

    assert np.abs(count(rows, edges_of(rows)) - 1_000).max() <= 1


def test_a_frequent_value_gets_its_own_bucket() -> None:
    rows = columns(np.where(np.arange(100) < 80, 0.0, np.arange(100)))
    edges = edges_of(rows)

    assert count(rows, edges)[0].max() == 80
    assert count(np.full((10, 1), -1.0), edges)[0, 0] == 10
    assert count(np.zeros((10, 1)), edges)[0].argmax() not in (0, BUCKETS - 1)


def test_a_constant_value_has_buckets_below_and_above() -> None:
    edges = edges_of(columns(np.full(50, 3.0)))

    assert [int(count(np.full((1, 1), value), edges)[0].argmax()) for value in (2.9, 3.0, 3.1)] == [0, 1, 9]


def test_psi_by_feature_equals_psi_of_each() -> None:
    reference, current = np.random.default_rng(1).integers(0, 50, (2, 6, BUCKETS))
    expected = [psi(p, q) for p, q in zip(reference, current, strict=True)]

    assert psi_by_feature(reference, current) == pytest.approx(expected)


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_ks_of_histograms_is_close_to_ks_of_values(shift: float) -> None:
    rng = np.random.default_rng(2)
    reference, current = rng.normal(size=(5_000, 1)), shift + rng.normal(size=(4_000, 1))
    edges = edges_of(reference.astype(np.float32))
    at = np.sort(np.concatenate([reference, current]).ravel())
    p, q = (np.searchsorted(np.sort(rows.ravel()), at, "right") / rows.size for rows in (reference, current))
    exact = np.abs(p - q).max()
    [binned] = ks_by_feature(count(reference, edges), count(current, edges))

    assert exact - 0.1 <= binned <= exact + 1e-9
