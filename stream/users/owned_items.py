"""Distinct items of users: short lists in the columns of users, long ones in a pool.

A list has the items that the user owns or has rated, then those that were only viewed or clicked.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.jit import kernel
from stream.records.batches import EventType
from stream.users.profiles import MAX_INTERACTED, N_INTERACTED

OWNING = np.zeros(len(EventType), np.bool_)  # by type: actions after which an item belongs to the owned ones
OWNING[[EventType.like, EventType.dislike, EventType.cart, EventType.purchase, EventType.rating]] = True


class LongLists(NamedTuple):
    """Lists that have left the columns."""

    slot: np.ndarray  # (rows,) int32 by row of the user, -1 = the list is in the column
    items: np.ndarray  # (slots, MAX_INTERACTED) uint64


@kernel
def add_item(
    row: int, key: np.uint64, is_owned: bool, size: np.ndarray, owned_size: np.ndarray, interacted: np.ndarray,
    long_lists: LongLists,
) -> None:  # fmt: skip
    """Add an item to the list of a user, or move it to the owned ones."""
    slot, items = long_lists
    if slot[row] >= 0:
        _add(row, key, is_owned, size, owned_size, items[slot[row]])
    else:
        _add(row, key, is_owned, size, owned_size, interacted[row])


@kernel
def _add(row: int, key: np.uint64, is_owned: bool, size: np.ndarray, owned_size: np.ndarray, items: np.ndarray) -> None:
    """Insert behind the owned items or at the end; a full part drops its oldest half."""
    n, n_owned, at = size[row], owned_size[row], size[row]
    for j in range(n):
        if items[j] == key:
            at = j
            break
    if at < n_owned or (at < n and not is_owned):
        return
    if at == n:
        if is_owned and n_owned == MAX_INTERACTED - N_INTERACTED:
            n = _drop(items, 0, n_owned // 2, n)
            n_owned -= n_owned // 2
        elif not is_owned and n - n_owned == N_INTERACTED:
            n = _drop(items, n_owned, N_INTERACTED // 2, n)
        at = n
        n += 1
    target = n_owned if is_owned else at
    for j in range(at, target, -1):
        items[j] = items[j - 1]
    items[target] = key
    size[row], owned_size[row] = n, n_owned + is_owned


@kernel
def find_item(row: int, key: np.uint64, size: np.ndarray, interacted: np.ndarray, long_lists: LongLists) -> int:
    """Return the index of an item in the list of a user, -1 if it is not there."""
    slot, long_items = long_lists
    for j in range(size[row]):
        if (long_items[slot[row], j] if slot[row] >= 0 else interacted[row, j]) == key:
            return j
    return -1


@kernel
def remove_item(
    row: int, at: int, is_kept: bool, size: np.ndarray, owned_size: np.ndarray, interacted: np.ndarray,
    long_lists: LongLists,
) -> None:  # fmt: skip
    """Remove an item from the list of a user.

    With `is_kept`, append it to the items that are not owned.
    """
    slot, long_items = long_lists
    items = long_items[slot[row]] if slot[row] >= 0 else interacted[row]
    key = items[at]
    size[row] = _drop(items, at, 1, size[row])
    owned_size[row] -= at < owned_size[row]
    if is_kept:
        items[size[row]] = key
        size[row] += 1


@kernel
def _drop(items: np.ndarray, first: int, count: int, size: int) -> int:
    """Remove `count` entries from `first` on; return the new size."""
    for j in range(first, size - count):
        items[j] = items[j + count]
    return size - count


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
            keys = np.frombuffer(records[i], np.uint64)
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
