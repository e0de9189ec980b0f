"""Items that are acted on faster than they used to be: a fast horizon against a slow one."""

import numpy as np

from online_models.items import HORIZONS, VIEWED, Items
from online_models.retrievers.boards import Board
from online_models.retrievers.popular import faded_order
from online_models.tables import State

_FAST, _SLOW = 1, 4  # an hour, a week; of HORIZONS
_PRIOR = 2.0  # actions: how many it takes before a rise is believed


class Trending:
    """The board of the fast horizon, reordered by the rise over what the slow horizon leads to expect."""

    def __init__(self, items: Items, size: int = 256) -> None:
        self._items = items
        self._board = Board(size)

    def learn(self, rows: np.ndarray) -> None:
        """Rows of items that were acted on, after the item table has counted them."""
        self._board.learn(rows, faded_order(self._items, rows, _FAST))

    def candidates(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Item rows, at most k, steepest rise first."""
        rows = self._board.rows
        rows = rows[eligible[rows] != 0][: 2 * k]
        steepest: np.ndarray = rows[np.argsort(-self._rise(rows, ts), kind="stable")[:k]]
        return steepest

    def _rise(self, rows: np.ndarray, ts: int) -> np.ndarray:
        age = np.maximum(0.0, (ts - self._items.counters["stamp"][rows]) / 1000.0)
        counts = self._items.counters["counts"][rows, VIEWED:].sum(axis=1, dtype=np.float64)
        fast = counts[:, _FAST] * np.exp2(-age / HORIZONS[_FAST])
        slow = counts[:, _SLOW] * np.exp2(-age / HORIZONS[_SLOW])
        expected = slow * HORIZONS[_FAST] / HORIZONS[_SLOW]
        rise: np.ndarray = (fast - expected) / np.sqrt(expected + _PRIOR)
        return rise

    def state(self) -> State:
        return self._board.state()

    def restore(self, state: State) -> None:
        self._board.restore(state)

    def changes(self) -> State:
        return self._board.changes()

    def apply(self, changes: State) -> None:
        self._board.apply(changes)
