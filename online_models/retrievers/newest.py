"""Items by the time they were made, or first met where the catalogue does not say."""

import numpy as np

from online_models.retrievers.leaderboard import Leaderboard, select_eligible
from online_models.state.item_table import NO_TIME, ItemTable
from online_models.state.tables import State


class NewestRetriever:
    """A board by time of birth, of which what lies in the future is passed over."""

    def __init__(self, items: ItemTable, size: int = 1024) -> None:
        self._items, self._size = items, size
        self._board = Leaderboard(size)

    def learn(self, rows: np.ndarray) -> None:
        """Rows of items that were described, shown or acted on."""
        rows = rows[rows >= 0]
        created_ts = self._creation_times(rows)
        latest = np.argsort(-created_ts, kind="stable")[: self._size]  # no more than these can come onto the board
        latest = latest[created_ts[latest] > NO_TIME]
        self._board.learn(rows[latest], created_ts[latest].astype(np.float64))

    def retrieve(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Item rows, at most k, newest first."""
        return select_eligible(self._board.rows_up_to(ts), eligible, k)

    def _creation_times(self, rows: np.ndarray) -> np.ndarray:
        created, first = self._items.catalog["created"][rows], self._items.counters["first"][rows]
        created_ts: np.ndarray = np.where(created > NO_TIME, created, first)
        return created_ts

    def state(self) -> State:
        return self._board.state()

    def restore(self, state: State) -> None:
        self._board.restore(state)

    def changes(self) -> State:
        return self._board.changes()

    def apply(self, changes: State) -> None:
        self._board.apply(changes)
