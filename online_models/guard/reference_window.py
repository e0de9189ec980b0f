"""A reference window of features: histograms of the last bins, over edges that follow what slowly moves."""

from collections import deque

import numpy as np

from stream.jit import kernel

BUCKETS = 10
_PARTS = np.arange(1, BUCKETS) / BUCKETS


def edges_of(rows: np.ndarray) -> np.ndarray:
    """Upper edges, (f, BUCKETS - 1) float32, of buckets that hold about as many of the rows, (n, f), each.

    A value that fills more than a bucket by itself gets one of its own: it is seen to come and go on both sides.
    """
    edges: np.ndarray = np.quantile(rows, _PARTS, axis=0, method="lower").T.astype(np.float32)
    equal = edges[:, 1:] == edges[:, :-1]
    equal[:, 1:] &= ~equal[:, :-1]  # the first of each run: it moves to just below the value, the others stay
    edges[:, :-1][equal] = np.nextafter(edges[:, :-1][equal], np.float32(-np.inf))
    return np.ascontiguousarray(edges)


@kernel
def count_into(rows: np.ndarray, edges: np.ndarray, counts: np.ndarray) -> None:
    """Add rows, (n, f) float32, to counts, (f, BUCKETS): a value goes to the first bucket whose edge is not below."""
    for m in range(rows.shape[0]):
        for f in range(rows.shape[1]):
            at = 0
            for b in range(edges.shape[1]):
                at += rows[m, f] > edges[f, b]
            counts[f, at] += 1


def psi_of(reference: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Population stability index by feature, (f,), of counts (f, BUCKETS): above 0.25 commonly called a shift."""
    p, q = _shares(reference), _shares(now)
    shift: np.ndarray = ((q - p) * np.log(q / p)).sum(axis=1)
    return shift


def ks_of(reference: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Two-sample Kolmogorov–Smirnov distance by feature, (f,): the greatest gap between distributions (Smirnov 1948).

    Of counts (f, BUCKETS) it is taken at the edges alone, so that it is no greater than that of the values themselves.
    """
    p, q = (np.cumsum(one / np.maximum(one.sum(axis=1, keepdims=True), 1), axis=1) for one in (reference, now))
    gap: np.ndarray = np.abs(p - q).max(axis=1)
    return gap


def _shares(counts: np.ndarray) -> np.ndarray:
    smooth = counts + 0.5
    share: np.ndarray = smooth / smooth.sum(axis=1, keepdims=True)
    return share


KEPT, LATELY = 60, 5  # bins of the reference, and bins beside them
_RETAKE = 20  # bins between two looks at whether a feature has left its edges


class Window:
    """Histograms, not rows: of each bin one per feature, over quantiles of the first bin.

    A feature that has left its edges gets new ones and begins anew; `age` says how many bins it has had them.
    """

    def __init__(self) -> None:
        self.reset(0)

    def __len__(self) -> int:
        return len(self._counts)

    def reset(self, features: int) -> None:
        self.edges = np.zeros((features, BUCKETS - 1), np.float32)
        self.age = np.zeros(features, np.int64)  # (f,)
        self._counts: deque[np.ndarray] = deque()  # (f, BUCKETS) of each bin
        self.before, self.lately = np.zeros((2, features, BUCKETS), np.int64)  # their sums, reference and last bins
        self._seen = 0

    def add(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if self._seen == 0:
            self.reset(rows.shape[1])
            self.edges = edges_of(rows)
        self._seen += 1
        if self._seen % _RETAKE == 0:
            self._retake(rows)
        self._counts.append(_counted(rows, self.edges))
        self.age += 1
        self.lately += self._counts[-1]
        if len(self) > LATELY:
            self.lately -= self._counts[-1 - LATELY]
            self.before += self._counts[-1 - LATELY]
        if len(self) > KEPT + LATELY:
            self.before -= self._counts.popleft()

    def _retake(self, rows: np.ndarray) -> None:
        """New edges for features most of which lie in one bucket, where others would tell more of them apart."""
        edges = edges_of(rows)
        fullest, best = _counted(rows, self.edges).max(axis=1), _counted(rows, edges).max(axis=1)
        stale = (fullest > 0.3 * rows.shape[0]) & (best < 0.5 * fullest)
        self.edges[stale] = edges[stale]
        self.age[stale] = 0
        for counts in (*self._counts, self.before, self.lately):
            counts[stale] = 0


def _counted(rows: np.ndarray, edges: np.ndarray) -> np.ndarray:
    counts = np.zeros((rows.shape[1], BUCKETS), np.int32)
    count_into(rows, edges, counts)
    return counts
