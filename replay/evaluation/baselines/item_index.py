"""Items with events, by row, and the actions of a batch."""

import numpy as np

from stream.ids import KeyIndex
from stream.records.batches import ExampleBatch, Kind


class ItemIndex:
    """Items with at least one event, in the order of their first event."""

    def __init__(self) -> None:
        self._index = KeyIndex(1024)
        self.keys = np.zeros(1024, np.uint64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32; −1 for unknown items."""
        return self._index.lookup(keys)

    def add(self, keys: np.ndarray) -> None:
        _, new_keys = self._index.lookup_or_insert(keys, self._size)
        self.keys = grow(self.keys, self._size + new_keys.size)
        self.keys[self._size : self._size + new_keys.size] = new_keys
        self._size += new_keys.size


def grow(array: np.ndarray, size: int) -> np.ndarray:
    """Return the array, or a copy at least twice as large if it is too small; new entries are 0."""
    if size <= array.shape[0]:
        return array
    larger = np.zeros((max(size, 2 * array.shape[0]), *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


def positive_rows(batch: ExampleBatch) -> np.ndarray:
    """Rows of the batch that are actions, except those of dislike."""
    return np.flatnonzero((batch.kind == Kind.action) & (batch.sign > 0))


def get_item_keys(batch: ExampleBatch, rows: np.ndarray) -> np.ndarray:
    """Item keys of action rows."""
    keys: np.ndarray = batch.lists.item[batch.lists.start[rows]]
    return keys
