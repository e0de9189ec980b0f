"""Top items by a value that only rises, kept exactly without sorting the catalog."""

from abc import abstractmethod

import numpy as np

from online_models.protocols import Stateful
from online_models.retrievers.candidates import Exclusions
from online_models.retrievers.retriever import Retriever
from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import HORIZONS, ItemTable, UserQueries
from online_models.state.tables import State
from online_models.state.workspace import Workspace
from stream.jit import kernel


@kernel
def _update_board(rows: np.ndarray, values: np.ndarray, board_rows: np.ndarray, board_values: np.ndarray) -> None:
    """Put rows with their new values on the board.

    The smallest entry is dropped, and so is a row of value -inf.
    """
    for i in range(rows.size):
        if rows[i] < 0:
            continue
        at, smallest = -1, 0
        for j in range(board_rows.size):
            if board_rows[j] == rows[i]:
                at = j
                break
            if board_values[j] < board_values[smallest]:
                smallest = j
        if at < 0 and values[i] > board_values[smallest]:
            at = smallest
        if at >= 0:
            board_rows[at] = rows[i]
            board_values[at] = values[i]
            if values[i] == -np.inf:
                board_rows[at] = -1


@kernel
def write_eligible(rows: np.ndarray, eligible: np.ndarray, selected_rows: np.ndarray) -> int:
    """Write the first item rows that are eligible; return their number."""
    count = 0
    for i in range(rows.size):
        if count == selected_rows.size:
            break
        if eligible[rows[i]]:
            selected_rows[count] = rows[i]
            count += 1
    return count


def select_eligible(rows: np.ndarray, eligible: np.ndarray, k: int) -> np.ndarray:
    """Return the first k of some item rows that are eligible; `eligible`: uint8 by item row."""
    selected_rows = np.empty(min(k, rows.size), np.int32)
    return selected_rows[: write_eligible(rows, eligible, selected_rows)]


def decayed_log_counts(items: ItemTable, rows: np.ndarray, horizon: int) -> np.ndarray:
    """Return values, (n,) float64, that order items as decayed action counts do at any time."""
    counts = items.counters["counts"][rows, VIEWED:, horizon].sum(axis=1, dtype=np.float64)
    half_lives = items.counters["stamp"][rows] / (1000.0 * HORIZONS[horizon])
    log_counts: np.ndarray = np.log2(np.maximum(counts, 1e-30)) + half_lives
    return log_counts


def corrected_log_counts(items: ItemTable, rows: np.ndarray, horizon: int) -> np.ndarray:
    """Return the same, (n,) float64, after retractions: -inf for items that lost all actions."""
    counts = items.counters["counts"][rows, VIEWED:, horizon].sum(axis=1)
    return np.where(counts > 0, decayed_log_counts(items, rows, horizon), -np.inf)


class Leaderboard:
    """The `size` items of the largest value, exact as long as no value falls.

    A value falls when an action is taken back; then an item that is not on the board could belong there.

    Counts that decay with one half-life keep their order between events, so log2(count) + time / half-life is such a
    value: an item can rise only by an event of its own.

    >>> board = Leaderboard(2)
    >>> board.learn(np.array([4, 5, 6], np.int32), np.array([1.0, 3.0, 2.0]))
    >>> board.rows.tolist()
    [5, 6]
    """

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"size of a leaderboard must be at least 1, got {size}")
        self._row = np.full(size, -1, np.int32)
        self._value = np.full(size, -np.inf, np.float64)
        self._sorted: np.ndarray | None = None

    @property
    def rows(self) -> np.ndarray:
        """Item rows, largest value first."""
        if self._sorted is None:
            rows = self._row[np.argsort(-self._value, kind="stable")]
            self._sorted = rows[rows >= 0]
        return self._sorted

    def rows_up_to(self, value: float) -> np.ndarray:
        """Return item rows of at most that value, largest first."""
        n_above = int(np.count_nonzero(self._value > value))
        return self.rows[n_above:]

    def learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        _update_board(rows, values, self._row, self._value)
        self._sorted = None

    def state(self) -> State:
        return {"row": self._row, "value": self._value}

    def restore(self, state: State) -> None:
        self._row = np.array(state["row"], np.int32)
        self._value = np.array(state["value"], np.float64)
        self._sorted = None

    def changes(self) -> State:
        return {name: array.copy() for name, array in self.state().items()}

    def apply(self, changes: State) -> None:
        self.restore(changes)


class LeaderboardRetriever(Retriever):
    """Offer all queries the same items of a board; derived classes implement `rank`."""

    def __init__(self, items: ItemTable, board: Stateful, workspace: Workspace | None) -> None:
        self._items, self._workspace, self._state = items, workspace or Workspace(), board

    @abstractmethod
    def rank(self, ts: int, k: int, eligible: np.ndarray) -> np.ndarray:
        """Return about k eligible item rows at time `ts`, ms, best first."""

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        """Return the board at the time of the latest query, (n, w) int32.

        The width w leaves k items after exclusions, if the board has so many.
        """
        if eligible is None:
            self._workspace.reserve(len(self._items))
            eligible = self._workspace.all_eligible
        width, n, ts = k + (exclusions.max_count if exclusions else 0), len(users), users.queries.ts
        latest = int(ts[0]) if n == 1 else int(ts.max(initial=0))  # reading one number is faster
        rows = self.rank(latest, width, eligible)[None]
        return rows if n == 1 else rows.repeat(n, axis=0)

    def state(self) -> State:
        return self._state.state()

    def restore(self, state: State) -> None:
        self._state.restore(state)

    def changes(self) -> State:
        return self._state.changes()

    def apply(self, changes: State) -> None:
        self._state.apply(changes)
