"""The items most shown in each category: what is like a fresh item, found without a pass over the catalogue."""

from dataclasses import dataclass

import numpy as np

from online_models.state.item_table import ItemTable
from stream.jit import kernel
from stream.records.batches import EventType

_BOARD_COUNT = 1 << 16  # a category's board is found by its hash; two that share one leave each other fewer places
_BOARD_SIZE = 8
_NO_CATEGORY = np.uint64(0)


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Of each of n items, up to m others that were shown."""

    rows: np.ndarray  # (n, m) int32, 0 where similarity is 0
    similarity: np.ndarray  # (n, m) float64, from 0, which is none, to 1


@kernel
def _find_board(category: np.uint64, boards: np.ndarray) -> np.ndarray:
    board: np.ndarray = boards[np.int64(category & np.uint64(boards.shape[0] - 1))]
    return board


@kernel
def _update_boards(
    rows: np.ndarray, categories: np.ndarray, totals: np.ndarray, event_type: int, boards: np.ndarray
) -> None:
    """Put rows where they stand among the most shown; of equals the one of the lower row, whoever came first."""
    for i in range(rows.size):
        row = rows[i]
        impressions = totals[row, event_type]
        for c in range(categories.shape[1] if impressions > 0 else 0):
            if categories[row, c] == _NO_CATEGORY:
                break
            board, target = _find_board(categories[row, c], boards), 0
            for slot in range(board.size):
                other = board[slot]
                if other < 0 or other == row:
                    target = slot
                    break
                margin = totals[board[target], event_type] - totals[other, event_type]
                if margin > 0 or (margin == 0 and other > board[target]):
                    target = slot
            other = board[target]
            if (
                other < 0
                or impressions > totals[other, event_type]
                or (impressions == totals[other, event_type] and row < other)
            ):
                board[target] = row


@kernel
def _jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Categories that two items share, of all that either has."""
    shared, left_size, right_size = 0, 0, 0
    for j in range(right.size):
        right_size += right[j] != _NO_CATEGORY
    for i in range(left.size):
        left_size += left[i] != _NO_CATEGORY
        for j in range(right.size):
            shared += left[i] != _NO_CATEGORY and left[i] == right[j]
    return shared / max(1, left_size + right_size - shared)


@kernel
def _price_similarity(left: float, right: float) -> float:
    """The lower price by the higher one; a price that nobody told says nothing."""
    if np.isnan(left) or np.isnan(right):
        return 1.0
    return (1.0 + min(left, right)) / (1.0 + max(left, right))


@kernel
def _fill_neighbors(
    rows: np.ndarray,
    categories: np.ndarray,
    price: np.ndarray,
    boards: np.ndarray,
    neighbor_rows: np.ndarray,
    similarities: np.ndarray,
) -> None:
    for i in range(rows.size):
        row, size = rows[i], 0
        for c in range(categories.shape[1]):
            if categories[row, c] == _NO_CATEGORY:
                break
            for other in _find_board(categories[row, c], boards):
                is_excluded = other < 0 or other == row
                for j in range(size):
                    is_excluded = is_excluded or neighbor_rows[i, j] == other
                if is_excluded:
                    continue
                similarity = _jaccard(categories[row], categories[other]) * _price_similarity(price[row], price[other])
                if similarity > 0.0:  # else it is of another category of the same hash, or has left this one
                    neighbor_rows[i, size], similarities[i, size] = other, similarity
                    size += 1


class CategoryLeaderboards:
    """Derived from counters that only rise: boards kept up with every update are those that a checkpoint gives."""

    def __init__(self, items: ItemTable) -> None:
        self._items = items
        self._boards = np.full((_BOARD_COUNT, _BOARD_SIZE), -1, np.int32)
        self.update(np.arange(len(items), dtype=np.int32))

    def update(self, rows: np.ndarray) -> None:
        """Rows of items that were counted or described, after the item table has taken note."""
        items = self._items
        _update_boards(
            rows, items.catalog["categories"], items.counters["total_counts"], EventType.impression, self._boards
        )

    def find_neighbors(self, rows: np.ndarray) -> Neighbors:
        """Items that share categories with each of n rows, well-shown ones first; alike in categories and in price."""
        catalog = self._items.catalog
        shape = rows.size, catalog["categories"].shape[1] * _BOARD_SIZE
        neighbor_rows, similarity = np.zeros(shape, np.int32), np.zeros(shape)
        _fill_neighbors(rows, catalog["categories"], catalog["price"], self._boards, neighbor_rows, similarity)
        return Neighbors(neighbor_rows, similarity)
