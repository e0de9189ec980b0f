"""Many features at once as histograms: what they look like beside what they looked like."""

import numpy as np

from stream.compiled import kernel

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
