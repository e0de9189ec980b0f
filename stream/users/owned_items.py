"""Distinct items of users: short lists in the columns of users, long ones in a pool."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.jit import kernel
from stream.users.profiles import MAX_INTERACTED, N_INTERACTED


class LongLists(NamedTuple):
    """Lists that have left the columns."""

    slot: np.ndarray  # (rows,) int32 by row of the user, -1 = the list is in the column
    items: np.ndarray  # (slots, MAX_INTERACTED) uint64, oldest first


@kernel
def add_item(row: int, key: np.uint64, size: np.ndarray, interacted: np.ndarray, long_lists: LongLists) -> None:
    """Append an item that the list of the user lacks."""
    slot, items = long_lists
    if slot[row] >= 0:
        _add(row, key, size, items[slot[row]])
    else:
        _add(row, key, size, interacted[row])


@kernel
def _add(row: int, key: np.uint64, size: np.ndarray, items: np.ndarray) -> None:
    """Append an item; a full list drops its oldest half."""
    n = size[row]
    for j in range(n):
        if items[j] == key:
            return
    if n == items.size:
        half = n // 2
        for j in range(n - half):
            items[j] = items[half + j]
        n -= half
    items[n] = key
    size[row] = n + 1


class OwnedItems:
    """Pool of the long lists of a user table. The split never shows in a list's content."""

    def __init__(self, rows: int) -> None:
        self._slot = np.full(rows, -1, np.int32)
        self._items = np.zeros((0, MAX_INTERACTED), np.uint64)
        self._n_used = 0

    @property
    def long_lists(self) -> LongLists:
        return LongLists(self._slot, self._items)

    def grow(self, rows: int) -> None:
        """Make room for more rows of users."""
        self._slot = np.concatenate([self._slot, np.full(rows - self._slot.size, -1, np.int32)])

    def make_room(self, rows: np.ndarray, sizes: np.ndarray, interacted: np.ndarray) -> None:
        """Move the lists that `rows`, (n,) with one entry per event, could fill into the pool."""
        distinct, counts = np.unique(rows, return_counts=True)
        filling = distinct[(sizes[distinct] + counts > N_INTERACTED) & (self._slot[distinct] < 0)]
        for row, slot in zip(filling.tolist(), self._take_slots(filling), strict=True):
            self._items[slot, : sizes[row]] = interacted[row, : sizes[row]]

    def load(self, rows: Sequence[int], records: Sequence[bytes]) -> list[bytes]:
        """Take lists that are too long for the column; returns the others, and empty ones for these."""
        long = [i for i, record in enumerate(records) if len(record) > 8 * N_INTERACTED]
        for i, slot in zip(long, self._take_slots(np.array([rows[i] for i in long], np.int64)), strict=True):
            keys = np.frombuffer(records[i], np.uint64)[-MAX_INTERACTED:]
            self._items[slot, : keys.size] = keys
        return [b"" if i in set(long) else record for i, record in enumerate(records)] if long else list(records)

    def encode(self, row: int, size: int) -> bytes | None:
        """Long list of a row as bytes; None if it is in the column."""
        return None if self._slot[row] < 0 else self._items[self._slot[row], :size].tobytes()

    def _take_slots(self, rows: np.ndarray) -> list[int]:
        first, self._n_used = self._n_used, self._n_used + rows.size
        if self._n_used > self._items.shape[0]:
            larger = np.zeros((2 * self._n_used, MAX_INTERACTED), np.uint64)
            larger[:first] = self._items[:first]
            self._items = larger
        self._slot[rows] = np.arange(first, self._n_used)
        return list(range(first, self._n_used))
