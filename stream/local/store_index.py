"""Index from user keys to their values in the blocks of the local store."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.ids import KeyIndex
from stream.jit import kernel

DELETED = -1  # as a size


class Entry(NamedTuple):
    """Location of a value."""

    position: int  # index of the key in the request
    block: int
    begin: int
    size: int


@kernel
def _update_locations(
    rows: np.ndarray,
    sizes: np.ndarray,
    blocks: np.ndarray,
    counts: np.ndarray,
    row_blocks: np.ndarray,
    row_begins: np.ndarray,
    row_sizes: np.ndarray,
) -> int:
    """Store the location of each record; returns the change in the number of live keys.

    The last record of a key wins.
    """
    record, change = 0, 0
    for i in range(blocks.size):
        begin = 0
        for _ in range(counts[i]):
            row, size = rows[record], sizes[record]
            change += int(size >= 0) - int(row_sizes[row] >= 0)
            row_blocks[row], row_begins[row], row_sizes[row] = blocks[i], begin, size
            begin += max(size, 0)
            record += 1
    return change


class StoreIndex:
    """Map from key to (block, begin, size); add blocks in the order of their writes.

    >>> index = StoreIndex()
    >>> index.add([0], [np.array([7, 9], np.uint64).tobytes()], [np.array([3, 5], np.int32).tobytes()])
    >>> index.lookup(np.array([9, 8], np.uint64))
    [Entry(position=0, block=0, begin=3, size=5)]
    """

    def __init__(self) -> None:
        self.end = 0  # number of the next record
        self.oldest = 0  # number of the oldest record in the file
        self.live_count = 0
        self._rows = KeyIndex()
        self._key = np.zeros(64, np.uint64)
        self._block = np.zeros(64, np.int64)
        self._begin = np.zeros(64, np.int32)
        self._size = np.full(64, DELETED, np.int32)

    def add(self, blocks: Sequence[int], keys: Sequence[bytes], sizes: Sequence[bytes]) -> None:
        key = np.frombuffer(b"".join(keys), np.uint64)
        size = np.frombuffer(b"".join(sizes), np.int32)
        counts = np.array([len(block) // key.itemsize for block in keys])
        n_rows = len(self._rows)
        rows, new_keys = self._rows.lookup_or_insert(key, n_rows)
        self._reserve(n_rows + new_keys.size)
        self._key[n_rows : n_rows + new_keys.size] = new_keys
        self.live_count += _update_locations(rows, size, np.array(blocks), counts, self._block, self._begin, self._size)
        self.end = blocks[-1] + int(counts[-1])

    def forget_below(self, oldest: int) -> None:
        """Forget deleted blocks; their live records were written again in later blocks."""
        self.oldest = oldest
        if oldest > self.end:  # blocks with deletions may have been cleaned before this process read them
            self._size[self._block < oldest] = DELETED
            self.live_count = int(np.count_nonzero(self._size >= 0))

    def lookup_one(self, key: int) -> Entry | None:
        row = int(self._rows.lookup(np.array([key], np.uint64))[0])
        if row < 0 or self._size[row] < 0:
            return None
        return Entry(0, int(self._block[row]), int(self._begin[row]), int(self._size[row]))

    def lookup(self, keys: np.ndarray) -> list[Entry]:
        """Locations of the keys that have a value, in the order of `keys`."""
        rows = self._rows.lookup(keys)
        positions = np.flatnonzero(rows >= 0)
        rows = rows[positions]
        live = self._size[rows] >= 0
        positions, rows = positions[live], rows[live]
        columns = (positions, self._block[rows], self._begin[rows], self._size[rows])
        return [Entry(*entry) for entry in zip(*(column.tolist() for column in columns), strict=True)]

    def live_mask(self, block: int, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Return True for records of a block, (n,) bool, that are the newest of their key."""
        rows = self._rows.lookup(keys)
        same = (self._block[rows] == block) & (self._begin[rows] == begin_offsets(sizes)) & (self._size[rows] == sizes)
        newest: np.ndarray = same & (rows >= 0) & (sizes >= 0)
        return newest

    def keys(self) -> np.ndarray:
        """Every key that has a value, (n,) uint64, unordered."""
        n_rows = len(self._rows)
        return self._key[:n_rows][self._size[:n_rows] >= 0]

    def _reserve(self, rows: int) -> None:
        extra = max(rows, 2 * self._key.size) - self._key.size
        if rows <= self._key.size:
            return
        self._key = np.append(self._key, np.zeros(extra, np.uint64))
        self._block = np.append(self._block, np.zeros(extra, np.int64))
        self._begin = np.append(self._begin, np.zeros(extra, np.int32))
        self._size = np.append(self._size, np.full(extra, DELETED, np.int32))


def begin_offsets(sizes: np.ndarray) -> np.ndarray:
    """Start of each value in the body of a block, (n,) int64."""
    lengths = np.maximum(sizes, 0).astype(np.int64)
    starts: np.ndarray = np.cumsum(lengths) - lengths
    return starts
