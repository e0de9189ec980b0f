"""Order items by decayed action counts, and select the most popular of a mask."""

import numpy as np

from online_models.retrievers.leaderboards.leaderboard import decayed_log_counts
from online_models.retrievers.top_k import top_k
from online_models.state.item_table import WEEK, ItemTable

_UNKNOWN = np.float32(-1e30)  # of rows that no update has written


class PopularityOrder:
    """Action counts of each item that decay over a week, as values that keep their order."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._values = np.zeros(0, np.float32)
        self.update(np.arange(len(items), dtype=np.int32))

    def update(self, rows: np.ndarray) -> None:
        """Read the counts of rows again; the item table is updated first."""
        if rows.size and (growth := 2 * (int(rows.max()) + 1) - 2 * self._values.size) > 0:
            self._values = np.concatenate([self._values, np.full(growth, _UNKNOWN)])
        self._values[rows] = decayed_log_counts(self._items, rows, WEEK)

    def select(self, mask: np.ndarray, count: int) -> np.ndarray:
        """Up to `count` rows of the mask, int32, the most popular first; ties go to the lower row."""
        if count < 1:
            return np.zeros(0, np.int32)
        rows = np.flatnonzero(mask).astype(np.int32)
        values = np.full(rows.size, _UNKNOWN)
        n_known = np.searchsorted(rows, self._values.size)
        values[:n_known] = self._values[rows[:n_known]]
        best = np.empty(min(count, rows.size), np.int64)
        selection: np.ndarray = rows[best[: top_k(values, rows.size, best)]]
        return selection
