"""A reference window of features: histograms of the last bins, over edges that follow what slowly moves."""

from collections import deque

import numpy as np

from stream.jit import kernel

BUCKETS = 10
_QUANTILES = np.arange(1, BUCKETS) / BUCKETS


def quantile_edges(rows: np.ndarray) -> np.ndarray:
    """Upper edges, (f, BUCKETS - 1) float32, of buckets that hold about as many of the rows, (n, f), each.

    A value that fills more than a bucket by itself gets one of its own: it is seen to come and go on both sides.
    """
    edges: np.ndarray = np.quantile(rows, _QUANTILES, axis=0, method="lower").T.astype(np.float32)
    is_repeated = edges[:, 1:] == edges[:, :-1]
    is_repeated[:, 1:] &= ~is_repeated[
        :, :-1
    ]  # the first of each run: it moves to just below the value, the others stay
    edges[:, :-1][is_repeated] = np.nextafter(edges[:, :-1][is_repeated], np.float32(-np.inf))
    return np.ascontiguousarray(edges)


@kernel
def count_into(rows: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> None:
    """Add rows, (n, f) float32, to counts, (f, BUCKETS): a value goes to the first bucket whose edge is not below."""
    for m in range(rows.shape[0]):
        for f in range(rows.shape[1]):
            bucket = 0
            for b in range(edges.shape[1]):
                bucket += rows[m, f] > edges[f, b]
            counts[f, bucket] += 1


def psi_by_feature(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Population stability index by feature, (f,), of counts (f, BUCKETS): above 0.25 commonly called a shift."""
    p, q = _smooth_shares(reference), _smooth_shares(current)
    shift: np.ndarray = ((q - p) * np.log(q / p)).sum(axis=1)
    return shift


def ks_by_feature(reference: np.ndarray, current: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov–Smirnov distance by feature, (f,): the greatest gap between distributions (Smirnov 1948).

    Of counts (f, BUCKETS) it is taken at the edges alone, so that it is no greater than that of the values themselves.
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


REFERENCE_BINS, RECENT_BINS = 60, 5  # bins of the reference, and bins beside them
_REFRESH_BINS = 20  # bins between two looks at whether a feature has left its edges


class ReferenceWindow:
    """Histograms, not rows: of each bin one per feature, over quantiles of the first bin.

    A feature that has left its edges gets new ones and begins anew; `age` says how many bins it has had them.
    """

    def __init__(self) -> None:
        self.reset(0)

    def __len__(self) -> int:
        return len(self._counts)

    def reset(self, n_features: int) -> None:
        self.edges = np.zeros((n_features, BUCKETS - 1), np.float32)
        self.age = np.zeros(n_features, np.int64)  # (f,)
        self._counts: deque[np.ndarray] = deque()  # (f, BUCKETS) of each bin
        self.reference, self.recent = np.zeros(
            (2, n_features, BUCKETS), np.int64
        )  # their sums, reference and last bins
        self._n_bins = 0

    def add(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if self._n_bins == 0:
            self.reset(rows.shape[1])
            self.edges = quantile_edges(rows)
        self._n_bins += 1
        if self._n_bins % _REFRESH_BINS == 0:
            self._refresh_edges(rows)
        self._counts.append(_count_rows(rows, self.edges))
        self.age += 1
        self.recent += self._counts[-1]
        if len(self) > RECENT_BINS:
            self.recent -= self._counts[-1 - RECENT_BINS]
            self.reference += self._counts[-1 - RECENT_BINS]
        if len(self) > REFERENCE_BINS + RECENT_BINS:
            self.reference -= self._counts.popleft()

    def _refresh_edges(self, rows: np.ndarray) -> None:
        """New edges for features most of which lie in one bucket, where others would tell more of them apart."""
        edges = quantile_edges(rows)
        max_counts, refreshed_max_counts = (
            _count_rows(rows, self.edges).max(axis=1),
            _count_rows(rows, edges).max(axis=1),
        )
        is_stale = (max_counts > 0.3 * rows.shape[0]) & (refreshed_max_counts < 0.5 * max_counts)
        self.edges[is_stale] = edges[is_stale]
        self.age[is_stale] = 0
        for counts in (*self._counts, self.reference, self.recent):
            counts[is_stale] = 0


def _count_rows(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.zeros((rows.shape[1], BUCKETS), np.int32)
    count_into(rows, edges, counts)
    return counts
