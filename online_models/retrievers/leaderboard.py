"""The top items by a number that only ever rises: kept exactly, without sorting the catalogue."""

import numpy as np

from online_models.state.tables import State
from stream.jit import kernel


@kernel
def _update_board(rows: np.ndarray, values: np.ndarray, board_rows: np.ndarray, board_values: np.ndarray) -> None:
    """Put rows with their risen values on the board; the smallest falls off."""
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


@kernel
def _select_eligible(rows: np.ndarray, eligible: np.ndarray, selected_rows: np.ndarray) -> int:
    count = 0
    for i in range(rows.size):
        if count == selected_rows.size:
            break
        if eligible[rows[i]]:
            selected_rows[count] = rows[i]
            count += 1
    return count


def select_eligible(rows: np.ndarray, eligible: np.ndarray, k: int) -> np.ndarray:
    """The first k of some item rows that are eligible; `eligible`: uint8 by item row."""
    selected_rows = np.empty(min(k, rows.size), np.int32)
    return selected_rows[: _select_eligible(rows, eligible, selected_rows)]


class Leaderboard:
    """The `size` items of the largest value, exact as long as no value falls.

    Counts that fade with one half-life keep their order between events, so log2(count) + time / half-life
    is such a number: an item can only rise by an event of its own.

    >>> board = Leaderboard(2)
    >>> board.learn(np.array([4, 5, 6], np.int32), np.array([1.0, 3.0, 2.0]))
    >>> board.rows.tolist()
    [5, 6]
    """

    def __init__(self, size: int) -> None:
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
        """Item rows of at most that value, largest first."""
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
