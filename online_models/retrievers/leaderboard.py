"""The top items by a number that only ever rises: kept exactly, without sorting the catalogue."""

import numpy as np

from online_models.state.tables import State
from stream.jit import kernel


@kernel
def _raise(rows: np.ndarray, values: np.ndarray, held: np.ndarray, value: np.ndarray) -> None:
    """Put rows with their risen values on the board; the smallest falls off."""
    for i in range(rows.size):
        if rows[i] < 0:
            continue
        at, smallest = -1, 0
        for j in range(held.size):
            if held[j] == rows[i]:
                at = j
                break
            if value[j] < value[smallest]:
                smallest = j
        if at < 0 and values[i] > value[smallest]:
            at = smallest
        if at >= 0:
            held[at] = rows[i]
            value[at] = values[i]


@kernel
def _first(rows: np.ndarray, eligible: np.ndarray, chosen: np.ndarray) -> int:
    found = 0
    for i in range(rows.size):
        if found == chosen.size:
            break
        if eligible[rows[i]]:
            chosen[found] = rows[i]
            found += 1
    return found


def first_eligible(rows: np.ndarray, eligible: np.ndarray, k: int) -> np.ndarray:
    """The first k of some item rows that are eligible; `eligible`: uint8 by item row."""
    chosen = np.empty(min(k, rows.size), np.int32)
    return chosen[: _first(rows, eligible, chosen)]


class Board:
    """The `size` items of the largest value, exact as long as no value falls.

    Counts that fade with one half-life keep their order between events, so log2(count) + time / half-life
    is such a number: an item can only rise by an event of its own.

    >>> board = Board(2)
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
        above = int(np.count_nonzero(self._value > value))
        return self.rows[above:]

    def learn(self, rows: np.ndarray, values: np.ndarray) -> None:
        _raise(rows, values, self._row, self._value)
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
