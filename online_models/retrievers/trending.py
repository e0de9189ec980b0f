"""Items that are acted on faster than they used to be: a fast horizon against a slow one."""

import numpy as np

from online_models.retrievers.leaderboard import Leaderboard, select_eligible
from online_models.retrievers.popular import decayed_log_counts
from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import HORIZONS, ItemTable
from online_models.state.tables import State
from stream.jit import kernel

_FAST, _SLOW = 1, 4  # an hour, a week; of HORIZONS
_PRIOR = 2.0  # actions: how many it takes before a rise is believed


@kernel
def _compute_shortfall(
    rows: np.ndarray, ts: int, counts: np.ndarray, stamp: np.ndarray, horizons: np.ndarray, out: np.ndarray
) -> None:
    """How far the fast horizon lies below what the slow one leads to expect, in standard deviations."""
    share = horizons[_FAST] / horizons[_SLOW]
    for i in range(rows.size):
        r = rows[i]
        age = max(0.0, (ts - stamp[r]) / 1000.0)
        fast, slow = 0.0, 0.0
        for kind in range(VIEWED, counts.shape[1]):
            fast += counts[r, kind, _FAST]
            slow += counts[r, kind, _SLOW]
        fast *= 2.0 ** (-age / horizons[_FAST])
        expected = slow * 2.0 ** (-age / horizons[_SLOW]) * share
        out[i] = (expected - fast) / np.sqrt(expected + _PRIOR)


class TrendingRetriever:
    """The board of the fast horizon, reordered by the rise over what the slow horizon leads to expect."""

    def __init__(self, items: ItemTable, size: int = 256) -> None:
        self._items = items
        self._board = Leaderboard(size)

    def learn(self, rows: np.ndarray) -> None:
        """Rows of items that were acted on, after the item table has counted them."""
        self._board.learn(rows, decayed_log_counts(self._items, rows, _FAST))

    def retrieve(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Item rows, at most k, steepest rise first."""
        rows = select_eligible(self._board.rows, eligible, self._board.rows.size)
        counters, shortfall = self._items.counters, np.empty(rows.size)
        _compute_shortfall(rows, ts, counters["counts"], counters["stamp"], HORIZONS, shortfall)
        steepest: np.ndarray = rows[np.argsort(shortfall, kind="stable")[:k]]
        return steepest

    def state(self) -> State:
        return self._board.state()

    def restore(self, state: State) -> None:
        self._board.restore(state)

    def changes(self) -> State:
        return self._board.changes()

    def apply(self, changes: State) -> None:
        self._board.apply(changes)
