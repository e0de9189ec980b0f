"""Where each user's value lies in the blocks of the local store."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.ids import KeyIndex
from stream.jit import kernel

DELETED = -1  # as a size


class Entry(NamedTuple):
    asked: int  # position of the key in the question
    block: int
    begin: int
    size: int


@kernel
def _place(
    rows: np.ndarray,
    sizes: np.ndarray,
    blocks: np.ndarray,
    counts: np.ndarray,
    block_of: np.ndarray,
    begin_of: np.ndarray,
    size_of: np.ndarray,
) -> int:
    """Note where each record lies; where a key repeats, the last one stays. By how many more keys have a value."""
    record, change = 0, 0
    for number in range(blocks.size):
        begin = 0
        for _ in range(counts[number]):
            row, size = rows[record], sizes[record]
            change += int(size >= 0) - int(size_of[row] >= 0)
            block_of[row], begin_of[row], size_of[row] = blocks[number], begin, size
            begin += max(size, 0)
            record += 1
    return change


class StoreIndex:
    """Key → (block, begin, size), fed with the blocks in the order in which they were written.

    >>> index = StoreIndex()
    >>> index.add([0], [np.array([7, 9], np.uint64).tobytes()], [np.array([3, 5], np.int32).tobytes()])
    >>> index.find(np.array([9, 8], np.uint64))
    [Entry(asked=0, block=0, begin=3, size=5)]
    """

    def __init__(self) -> None:
        self.end = 0  # number of the next record
        self.oldest = 0  # first record that is still kept
        self.live = 0
        self._rows = KeyIndex()
        self._key = np.zeros(64, np.uint64)
        self._block = np.zeros(64, np.int64)
        self._begin = np.zeros(64, np.int32)
        self._size = np.full(64, DELETED, np.int32)

    def add(self, blocks: Sequence[int], keys: Sequence[bytes], sizes: Sequence[bytes]) -> None:
        key = np.frombuffer(b"".join(keys), np.uint64)
        size = np.frombuffer(b"".join(sizes), np.int32)
        counts = np.array([len(block) // key.itemsize for block in keys])
        used = len(self._rows)
        rows, fresh = self._rows.number(key, used)
        self._reserve(used + fresh.size)
        self._key[used : used + fresh.size] = fresh
        self.live += _place(rows, size, np.array(blocks), counts, self._block, self._begin, self._size)
        self.end = blocks[-1] + int(counts[-1])

    def forget_below(self, oldest: int) -> None:
        """Blocks below are gone: what was alive there has come again further up."""
        self.oldest = oldest
        if oldest > self.end:  # deletions may have come and gone unseen
            self._size[self._block < oldest] = DELETED
            self.live = int(np.count_nonzero(self._size >= 0))

    def find_one(self, key: int) -> Entry | None:
        row = int(self._rows.find(np.array([key], np.uint64))[0])
        if row < 0 or self._size[row] < 0:
            return None
        return Entry(0, int(self._block[row]), int(self._begin[row]), int(self._size[row]))

    def find(self, keys: np.ndarray) -> list[Entry]:
        """The keys that have a value, in the order asked."""
        rows = self._rows.find(keys)
        asked = np.flatnonzero(rows >= 0)
        rows = rows[asked]
        alive = self._size[rows] >= 0
        asked, rows = asked[alive], rows[alive]
        columns = (asked, self._block[rows], self._begin[rows], self._size[rows])
        return [Entry(*entry) for entry in zip(*(column.tolist() for column in columns), strict=True)]

    def alive(self, block: int, keys: np.ndarray, sizes: np.ndarray) -> np.ndarray:
        """Which records of a block are the newest of their key, (n,) bool."""
        rows = self._rows.find(keys)
        same = (self._block[rows] == block) & (self._begin[rows] == begins(sizes)) & (self._size[rows] == sizes)
        newest: np.ndarray = same & (rows >= 0) & (sizes >= 0)
        return newest

    def keys(self) -> np.ndarray:
        """Every key that has a value, (n,) uint64, in no order."""
        used = len(self._rows)
        return self._key[:used][self._size[:used] >= 0]

    def _reserve(self, rows: int) -> None:
        grown = max(rows, 2 * self._key.size) - self._key.size
        if rows <= self._key.size:
            return
        self._key = np.append(self._key, np.zeros(grown, np.uint64))
        self._block = np.append(self._block, np.zeros(grown, np.int64))
        self._begin = np.append(self._begin, np.zeros(grown, np.int32))
        self._size = np.append(self._size, np.full(grown, DELETED, np.int32))


def begins(sizes: np.ndarray) -> np.ndarray:
    """Where each value of a block begins in its body, (n,) int64."""
    lengths = np.maximum(sizes, 0).astype(np.int64)
    starts: np.ndarray = np.cumsum(lengths) - lengths
    return starts
