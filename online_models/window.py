"""A reference window of features: histograms of the last bins, over edges that follow what slowly moves."""

from collections import deque

import numpy as np

from online_models.histograms import BUCKETS, count_into, edges_of

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
