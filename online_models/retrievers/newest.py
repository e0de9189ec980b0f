"""Items by the time they were made, or first met where the catalogue does not say."""

import numpy as np

from online_models.retrievers.leaderboard import Board, first_eligible
from online_models.state.item_table import NO_TIME, Items
from online_models.state.tables import State


class Newest:
    """A board by time of birth, of which what lies in the future is passed over."""

    def __init__(self, items: Items, size: int = 1024) -> None:
        self._items, self._size = items, size
        self._board = Board(size)

    def learn(self, rows: np.ndarray) -> None:
        """Rows of items that were described, shown or acted on."""
        rows = rows[rows >= 0]
        born = self._born(rows)
        latest = np.argsort(-born, kind="stable")[: self._size]  # no more than these can come onto the board
        latest = latest[born[latest] > NO_TIME]
        self._board.learn(rows[latest], born[latest].astype(np.float64))

    def candidates(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Item rows, at most k, newest first."""
        return first_eligible(self._board.rows_up_to(ts), eligible, k)

    def _born(self, rows: np.ndarray) -> np.ndarray:
        created, first = self._items.catalogue["created"][rows], self._items.counters["first"][rows]
        born: np.ndarray = np.where(created > NO_TIME, created, first)
        return born

    def state(self) -> State:
        return self._board.state()

    def restore(self, state: State) -> None:
        self._board.restore(state)

    def changes(self) -> State:
        return self._board.changes()

    def apply(self, changes: State) -> None:
        self._board.apply(changes)
