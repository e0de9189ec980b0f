"""Items by counts that fade over a day, a week and two months: what most people turn to."""

import numpy as np

from online_models.retrievers.leaderboard import Leaderboard, select_eligible
from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import HORIZONS, ItemTable
from online_models.state.tables import State, prefix_states, substate

_DAY, _WEEK, _MONTHS = 3, 4, 5  # of HORIZONS


def decayed_log_counts(items: ItemTable, rows: np.ndarray, horizon: int) -> np.ndarray:
    """Numbers that order items as their fading counts do, now and later, (n,) float64."""
    counts = items.counters["counts"][rows, VIEWED:, horizon].sum(axis=1, dtype=np.float64)
    half_lives = items.counters["stamp"][rows] / (1000.0 * HORIZONS[horizon])
    log_counts: np.ndarray = np.log2(np.maximum(counts, 1e-30)) + half_lives
    return log_counts


class PopularRetriever:
    """One board per horizon, asked in turns."""

    def __init__(self, items: ItemTable, size: int = 256) -> None:
        self._items = items
        self._boards = {name: Leaderboard(size) for name in ("day", "week", "months")}

    def learn(self, rows: np.ndarray) -> None:
        """Rows of items that were acted on, after the item table has counted them."""
        for board, horizon in zip(self._boards.values(), (_DAY, _WEEK, _MONTHS), strict=True):
            board.learn(rows, decayed_log_counts(self._items, rows, horizon))

    def retrieve(self, k: int, eligible: np.ndarray) -> np.ndarray:
        """About k item rows, the boards' best in turns, -1 where one has no more; some may stand there twice."""
        turns = np.full((-(-k // len(self._boards)), len(self._boards)), -1, np.int32)
        for j, board in enumerate(self._boards.values()):
            rows = select_eligible(board.rows, eligible, turns.shape[0])
            turns[: rows.size, j] = rows
        return turns.reshape(-1)

    def state(self) -> State:
        return prefix_states({name: board.state() for name, board in self._boards.items()})

    def restore(self, state: State) -> None:
        for name, board in self._boards.items():
            board.restore(substate(state, name))

    def changes(self) -> State:
        return prefix_states({name: board.changes() for name, board in self._boards.items()})

    def apply(self, changes: State) -> None:
        self.restore(changes)
