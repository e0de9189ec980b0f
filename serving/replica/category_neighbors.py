"""The items most shown in each category: what is like a fresh item, found without a pass over the catalogue."""

from dataclasses import dataclass

import numpy as np

from online_models.state.item_table import Items
from stream.jit import kernel
from stream.records.batches import EventType

_BOARDS = 1 << 16  # a category's board is found by its hash; two that share one leave each other fewer places
_PLACES = 8
_NO_CATEGORY = np.uint64(0)


@dataclass(frozen=True, slots=True)
class Alike:
    """Of each of n items, up to m others that were shown."""

    rows: np.ndarray  # (n, m) int32, 0 where similarity is 0
    similarity: np.ndarray  # (n, m) float64, from 0, which is none, to 1


@kernel
def _board_of(category: np.uint64, boards: np.ndarray) -> np.ndarray:
    board: np.ndarray = boards[np.int64(category & np.uint64(boards.shape[0] - 1))]
    return board


@kernel
def _put(rows: np.ndarray, categories: np.ndarray, ever: np.ndarray, kind: int, boards: np.ndarray) -> None:
    """Put rows where they stand among the most shown; of equals the one of the lower row, whoever came first."""
    for i in range(rows.size):
        row = rows[i]
        shown = ever[row, kind]
        for c in range(categories.shape[1] if shown > 0 else 0):
            if categories[row, c] == _NO_CATEGORY:
                break
            board, at = _board_of(categories[row, c], boards), 0
            for place in range(board.size):
                held = board[place]
                if held < 0 or held == row:
                    at = place
                    break
                least = ever[board[at], kind] - ever[held, kind]
                if least > 0 or (least == 0 and held > board[at]):
                    at = place
            held = board[at]
            if held < 0 or shown > ever[held, kind] or (shown == ever[held, kind] and row < held):
                board[at] = row


@kernel
def _jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Categories that two items share, of all that either has."""
    shared, of_left, of_right = 0, 0, 0
    for j in range(right.size):
        of_right += right[j] != _NO_CATEGORY
    for i in range(left.size):
        of_left += left[i] != _NO_CATEGORY
        for j in range(right.size):
            shared += left[i] != _NO_CATEGORY and left[i] == right[j]
    return shared / max(1, of_left + of_right - shared)


@kernel
def _closeness(left: float, right: float) -> float:
    """The lower price by the higher one; a price that nobody told says nothing."""
    if np.isnan(left) or np.isnan(right):
        return 1.0
    return (1.0 + min(left, right)) / (1.0 + max(left, right))


@kernel
def _look_up(
    rows: np.ndarray, categories: np.ndarray, price: np.ndarray, boards: np.ndarray, near: np.ndarray, alike: np.ndarray
) -> None:
    for i in range(rows.size):
        row, size = rows[i], 0
        for c in range(categories.shape[1]):
            if categories[row, c] == _NO_CATEGORY:
                break
            for other in _board_of(categories[row, c], boards):
                known = other < 0 or other == row
                for j in range(size):
                    known = known or near[i, j] == other
                if known:
                    continue
                similarity = _jaccard(categories[row], categories[other]) * _closeness(price[row], price[other])
                if similarity > 0.0:  # else it is of another category of the same hash, or has left this one
                    near[i, size], alike[i, size] = other, similarity
                    size += 1


class CategoryBoards:
    """Derived from counters that only rise: boards kept up with every update are those that a checkpoint gives."""

    def __init__(self, items: Items) -> None:
        self._items = items
        self._boards = np.full((_BOARDS, _PLACES), -1, np.int32)
        self.learn(np.arange(len(items), dtype=np.int32))

    def learn(self, rows: np.ndarray) -> None:
        """Rows of items that were counted or described, after the item table has taken note."""
        items = self._items
        _put(rows, items.catalogue["categories"], items.counters["ever"], EventType.impression, self._boards)

    def alike(self, rows: np.ndarray) -> Alike:
        """Items that share categories with each of n rows, well-shown ones first; alike in categories and in price."""
        catalogue = self._items.catalogue
        size = rows.size, catalogue["categories"].shape[1] * _PLACES
        near, similarity = np.zeros(size, np.int32), np.zeros(size)
        _look_up(rows, catalogue["categories"], catalogue["price"], self._boards, near, similarity)
        return Alike(near, similarity)
