"""Features that always differed and are the same for everybody now: what they are made from has gone."""

from collections import deque

import numpy as np

from online_models.window import KEPT, LATELY, Window

_BINS = 2  # without another value, at least
_A_SLATE = 10  # rows that tell no more than one, at most: places of a slate share much
_SURE = 20.0  # log of the odds against chance


class Stuck:
    """Counts, by feature, the rows since it last had two values at once."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, features: int) -> None:
        self.value = np.zeros(features, np.float32)  # (f,) at which it is stuck, if it is
        self._bins, self._rows = np.zeros((2, features), np.int64)  # (f,) in a row without another value
        self._varied: deque[np.ndarray] = deque(maxlen=KEPT + LATELY)  # (f,) bool of each bin

    def add(self, rows: np.ndarray) -> None:
        """Add the rows of a bin, (n, f) float32."""
        if rows.shape[1] != self.value.size:
            self.reset(rows.shape[1])
        top = rows.max(axis=0)
        near = 1e-6 * (1 + np.abs(top))
        varied, other = top - rows.min(axis=0) > near, np.abs(top - self.value) > near
        self._bins, self._rows = np.where(varied | other, 0, (self._bins, self._rows))
        self._bins, self._rows = self._bins + ~varied, self._rows + rows.shape[0] * ~varied
        self.value = top
        self._varied.append(varied)

    def broken(self, window: Window, warm: int) -> np.ndarray:
        """Features that varied in every bin of the reference, and whose rows are not all alike by chance now."""
        stuck = np.flatnonzero((self._bins >= _BINS) & (self._bins <= LATELY) & (window.age > warm))
        if len(self._varied) < warm + LATELY or not stuck.size:
            return stuck[:0]
        counts = window.before[stuck]
        at = (self.value[stuck, None] > window.edges[stuck]).sum(axis=1)
        alike = counts[np.arange(stuck.size), at] / np.maximum(1, counts.sum(axis=1))
        odds = self._rows[stuck] / _A_SLATE * -np.log(np.maximum(alike, 1e-3))
        always = np.array(self._varied)[:-LATELY, stuck].all(axis=0)
        broken: np.ndarray = stuck[(odds > _SURE) & always]
        return broken
