"""Sliding reference window of feature histograms, with bucket edges that follow slow drift."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from online_models.guard.settings import GuardRecord
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class WindowSettings(GuardRecord):
    buckets: int = 10  # of each histogram
    reference_bins: int = 60
    recent_bins: int = 5  # compared with the reference
    refresh_bins: int = 20  # between two checks of the edges
    max_bucket_share: float = 0.3  # of a bin's rows in one bucket, above which a feature may get new edges


def quantile_edges(rows: np.ndarray, buckets: int) -> np.ndarray:
    """Upper edges, (f, buckets - 1) float32, of buckets that share the rows, (n, f), evenly.

    A value that fills more than one bucket gets a bucket of its own, so that a shift of its share shows on both sides.
    """
    quantiles = np.arange(1, buckets) / buckets
    edges: np.ndarray = np.quantile(rows, quantiles, axis=0, method="lower").T.astype(np.float32)
    is_repeated = edges[:, 1:] == edges[:, :-1]
    # Of each run of equal edges the first moves to just below the value; the others stay.
    is_repeated[:, 1:] &= ~is_repeated[:, :-1]
    edges[:, :-1][is_repeated] = np.nextafter(edges[:, :-1][is_repeated], np.float32(-np.inf))
    return np.ascontiguousarray(edges)


@kernel
def count_into(rows: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> None:
    """Add rows, (n, f) float32, to counts, (f, buckets).

    A value goes to the first bucket whose edge is not below it.
    """
    for m in range(rows.shape[0]):
        for f in range(rows.shape[1]):
            bucket = 0
            for b in range(edges.shape[1]):
                bucket += rows[m, f] > edges[f, b]
            counts[f, bucket] += 1


def psi_by_feature(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Population stability index by feature, (f,), of counts (f, buckets); see `psi`."""
    p, q = _smooth_shares(reference), _smooth_shares(current)
    shift: np.ndarray = ((q - p) * np.log(q / p)).sum(axis=1)
    return shift


def ks_by_feature(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov–Smirnov distance by feature, (f,) (Smirnov 1948).

    From counts (f, buckets) the gap is taken at the edges only, so it is at most the distance of the values.
    """
    p, q = (
        np.cumsum(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1), axis=1) for counts in (reference, current)
    )
    gap: np.ndarray = np.abs(p - q).max(axis=1)
    return gap


def _smooth_shares(counts: np.ndarray) -> np.ndarray:
    smooth = counts + 0.5
    share: np.ndarray = smooth / smooth.sum(axis=1, keepdims=True)
    return share


class ReferenceWindow:
    """Keep one histogram per bin and feature, over quantiles of the first bin; no rows are kept.

    A feature that has moved out of its edges gets new ones and starts over; `age` counts the bins since then.
    """

    def __init__(self, settings: WindowSettings) -> None:
        self.settings = settings
        self.reset(0)

    def __len__(self) -> int:
        return len(self._counts)

    def reset(self, n_features: int) -> None:
        buckets = self.settings.buckets
        self.edges = np.zeros((n_features, buckets - 1), np.float32)
        self.age = np.zeros(n_features, np.int64)  # (f,)
        self._counts: deque[np.ndarray] = deque()  # (f, buckets) of each bin
        # Sums over the reference bins and over the recent bins.
        self.reference, self.recent = np.zeros((2, n_features, buckets), np.int64)
        self._n_bins = 0

    def add(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if self._n_bins == 0:
            self.reset(rows.shape[1])
            self.edges = quantile_edges(rows, self.settings.buckets)
        self._n_bins += 1
        if self._n_bins % self.settings.refresh_bins == 0:
            self._refresh_edges(rows)
        self._counts.append(self._count(rows, self.edges))
        self.age += 1
        self.recent += self._counts[-1]
        if len(self) > self.settings.recent_bins:
            self.recent -= self._counts[-1 - self.settings.recent_bins]
            self.reference += self._counts[-1 - self.settings.recent_bins]
        if len(self) > self.settings.reference_bins + self.settings.recent_bins:
            self.reference -= self._counts.popleft()

    def _refresh_edges(self, rows: np.ndarray) -> None:
        """Renew the edges of features in mostly one bucket, if new edges would spread them."""
        edges = quantile_edges(rows, self.settings.buckets)
        max_counts, new_max_counts = (self._count(rows, e).max(axis=1) for e in (self.edges, edges))
        is_stale = (max_counts > self.settings.max_bucket_share * rows.shape[0]) & (new_max_counts < 0.5 * max_counts)
        self.edges[is_stale] = edges[is_stale]
        self.age[is_stale] = 0
        for counts in (*self._counts, self.reference, self.recent):
            counts[is_stale] = 0

    def _count(self, rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
        counts = np.zeros((rows.shape[1], self.settings.buckets), np.int32)
        count_into(rows, edges, counts)
        return counts
