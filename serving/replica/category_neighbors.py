"""Find items similar to a fresh item among the most shown items of its categories."""

from dataclasses import dataclass

import numpy as np

from online_models.state.item_table import ItemTable
from stream.jit import kernel
from stream.records.batches import EventType

_NO_CATEGORY = np.uint64(0)


@dataclass(frozen=True, slots=True)
class LeaderboardSettings:
    """Size of the leaderboards of most shown items by category."""

    n_boards: int = (
        1 << 16
    )  # a power of 2; categories of equal hash share a board, and leave each other fewer positions
    board_size: int = 8


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Up to m similar items that were shown, for each of n items."""

    rows: np.ndarray  # (n, m) int32, 0 where similarity is 0
    similarity: np.ndarray  # (n, m) float64, 0 to 1


@kernel
def _find_board(category: np.uint64, boards: np.ndarray) -> np.ndarray:
    board: np.ndarray = boards[np.int64(category & np.uint64(boards.shape[0] - 1))]
    return board


@kernel
def _update_boards(
    rows: np.ndarray, categories: np.ndarray, totals: np.ndarray, event_type: int, boards: np.ndarray
) -> None:
    """Rank rows among the most shown; a tie goes to the lower row, in any order of updates."""
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
def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Jaccard similarity of two items' categories: shared ones by all of either."""
    shared, left_size, right_size = 0, 0, 0
    while right_size < right.size and right[right_size] != _NO_CATEGORY:
        right_size += 1
    while left_size < left.size and left[left_size] != _NO_CATEGORY:
        for j in range(right_size):
            shared += left[left_size] == right[j]
        left_size += 1
    return shared / max(1, left_size + right_size - shared)


@kernel
def _price_similarity(left: float, right: float) -> float:
    """Ratio of the lower price to the higher one; 1 if a price is unknown."""
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
                similarity = jaccard(categories[row], categories[other]) * _price_similarity(price[row], price[other])
                if similarity > 0.0:  # otherwise another category has the same hash, or the item left this category
                    neighbor_rows[i, size], similarities[i, size] = other, similarity
                    size += 1


@kernel
def _scan_neighbors(
    row: int,
    categories: np.ndarray,
    price: np.ndarray,
    eligible: np.ndarray,
    rows: np.ndarray,
    similarities: np.ndarray,
) -> int:
    """Write the most similar rows, best first, of equals the newest; return their number."""
    count = 0
    for other in range(categories.shape[0] - 1, -1, -1):
        if other == row or not eligible[other] or categories[other, 0] == _NO_CATEGORY:
            continue
        similarity = jaccard(categories[row], categories[other])
        if similarity > 0.0:
            similarity *= _price_similarity(price[row], price[other])
        slot = count
        while slot > 0 and similarities[slot - 1] < similarity:
            slot -= 1
        if similarity <= 0.0 or slot == rows.size:
            continue
        count = min(count + 1, rows.size)
        for j in range(count - 1, slot, -1):
            rows[j], similarities[j] = rows[j - 1], similarities[j - 1]
        rows[slot], similarities[slot] = other, similarity
    return count


@kernel
def _fill_similarity(
    row: int, others: np.ndarray, categories: np.ndarray, price: np.ndarray, similarity: np.ndarray
) -> None:
    for i in range(others.size):
        other = others[i]
        similarity[i] = jaccard(categories[row], categories[other]) * _price_similarity(price[row], price[other])


class CategoryLeaderboards:
    """Most shown items by category, so that no request needs a pass over the catalog.

    They derive from counters that only rise, so boards updated step by step equal those built from a checkpoint.
    """

    def __init__(self, items: ItemTable, settings: LeaderboardSettings | None = None) -> None:
        settings = settings or LeaderboardSettings()
        self._items = items
        self._boards = np.full((settings.n_boards, settings.board_size), -1, np.int32)
        self.update(np.arange(len(items), dtype=np.int32))

    def update(self, rows: np.ndarray) -> None:
        """Rank rows whose counts or attributes changed; the item table is updated first."""
        items = self._items
        _update_boards(
            rows, items.catalog["categories"], items.counters["total_counts"], EventType.impression, self._boards
        )

    def measure_similarity(self, row: int, others: np.ndarray) -> np.ndarray:
        """Similarity of categories and price of n other items to an item, (n,) float64, 0 to 1."""
        similarity = np.zeros(others.size)
        _fill_similarity(row, others, self._items.catalog["categories"], self._items.catalog["price"], similarity)
        return similarity

    def find_neighbors(self, rows: np.ndarray) -> Neighbors:
        """Find items that share categories with n rows, by Jaccard similarity × price ratio."""
        catalog = self._items.catalog
        shape = rows.size, catalog["categories"].shape[1] * self._boards.shape[1]
        neighbor_rows, similarity = np.zeros(shape, np.int32), np.zeros(shape)
        _fill_neighbors(rows, catalog["categories"], catalog["price"], self._boards, neighbor_rows, similarity)
        return Neighbors(neighbor_rows, similarity)

    def find_new_neighbors(self, row: int, eligible: np.ndarray, count: int, max_rows: int = 100_000) -> np.ndarray:
        """Find up to `count` eligible items that share categories with an item, most similar first.

        They need not have been shown. It reads the newest `max_rows` rows of the catalog; of equally similar items,
        the newest come first.
        """
        catalog, end = self._items.catalog, len(self._items)
        first = max(0, end - max_rows)
        if row < first:
            return np.zeros(0, np.int32)
        rows, similarities = np.zeros(count, np.int32), np.zeros(count)
        n_found = _scan_neighbors(
            row - first, catalog["categories"][first:end], catalog["price"][first:end], eligible[first:end], rows,
            similarities,
        )  # fmt: skip
        return rows[:n_found] + np.int32(first)
