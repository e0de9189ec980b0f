"""Where each user's value lies in the blocks of the local store."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.ids import KeyIndex
from stream.jit import kernel

DELETED = -1  # as a size


class Entry(NamedTuple):
    position: int  # position of the key in the question
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
    """Note where each record lies; where a key repeats, the last one stays. By how many more keys have a value."""
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
    """Key → (block, begin, size), fed with the blocks in the order in which they were written.

    >>> index = StoreIndex()
    >>> index.add([0], [np.array([7, 9], np.uint64).tobytes()], [np.array([3, 5], np.int32).tobytes()])
    >>> index.lookup(np.array([9, 8], np.uint64))
    [Entry(position=0, block=0, begin=3, size=5)]
    """

    def __init__(self) -> None:
        self.end = 0  # number of the next record
        self.oldest = 0  # first record that is still kept
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
        """Blocks below are gone: what was alive there has come again further up."""
        self.oldest = oldest
        if oldest > self.end:  # deletions may have come and gone unseen
            self._size[self._block < oldest] = DELETED
            self.live_count = int(np.count_nonzero(self._size >= 0))

    def lookup_one(self, key: int) -> Entry | None:
        row = int(self._rows.lookup(np.array([key], np.uint64))[0])
        if row < 0 or self._size[row] < 0:
            return None
        return Entry(0, int(self._block[row]), int(self._begin[row]), int(self._size[row]))

    def lookup(self, keys: np.ndarray) -> list[Entry]:
        """The keys that have a value, in the order asked."""
        rows = self._rows.lookup(keys)
        positions = np.flatnonzero(rows >= 0)
        rows = rows[positions]
        live = self._size[rows] >= 0
        positions, rows = positions[live], rows[live]
        columns = (positions, self._block[rows], self._begin[rows], self._size[rows])
        return [Entry(*entry) for entry in zip(*(column.tolist() for column in columns), strict=True)]

    def live_mask(self, block: int, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Which records of a block are the newest of their key, (n,) bool."""
        rows = self._rows.lookup(keys)
        same = (self._block[rows] == block) & (self._begin[rows] == begin_offsets(sizes)) & (self._size[rows] == sizes)
        newest: np.ndarray = same & (rows >= 0) & (sizes >= 0)
        return newest

    def keys(self) -> np.ndarray:
        """Every key that has a value, (n,) uint64, in no order."""
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
    """Where each value of a block begins in its body, (n,) int64."""
    lengths = np.maximum(sizes, 0).astype(np.int64)
    starts: np.ndarray = np.cumsum(lengths) - lengths
    return starts
