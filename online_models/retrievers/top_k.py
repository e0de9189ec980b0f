"""The best few of many scores, and the map by which kernels know which entry an item is."""

from dataclasses import dataclass

import numpy as np

from stream.jit import kernel

MASKED = -2  # the place of an item that is not to be found


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Items that are not to be found: those of question i are entries [start[i], start[i + 1])."""

    start: np.ndarray  # (n + 1,) int64
    row: np.ndarray  # (h,) int32, -1 = an item that the table does not know

    @property
    def max_count(self) -> int:
        """Of one question."""
        return int(np.diff(self.start).max(initial=0))


def empty_exclusions(n_queries: int) -> Exclusions:
    return Exclusions(np.zeros(n_queries + 1, np.int64), np.zeros(0, np.int32))


@kernel
def mask(rows: np.ndarray, entry_index: np.ndarray) -> None:
    """Keep these items from being found until `show`; those that have a place keep it."""
    for i in range(rows.size):
        if rows[i] >= 0 and entry_index[rows[i]] == -1:
            entry_index[rows[i]] = MASKED


@kernel
def unmask(rows: np.ndarray, entry_index: np.ndarray) -> None:
    for i in range(rows.size):
        if rows[i] >= 0 and entry_index[rows[i]] == MASKED:
            entry_index[rows[i]] = -1


@kernel
def top_k(scores: np.ndarray, count: int, indices: np.ndarray) -> int:
    """Fill `chosen` with indices of the largest of the first `count` scores, best first; returns how many there are.

    A heap whose root is the worst one kept. Of equal scores the earlier index is the better one.
    """
    k = min(indices.size, count)
    for i in range(k):
        indices[i] = i
    for root in range(k // 2 - 1, -1, -1):
        _sift(scores, indices, root, k)
    for i in range(k, count):
        if scores[i] > scores[indices[0]]:
            indices[0] = i
            _sift(scores, indices, 0, k)
    for end in range(k - 1, 0, -1):
        indices[0], indices[end] = indices[end], indices[0]
        _sift(scores, indices, 0, end)
    return k


@kernel
def _sift(scores: np.ndarray, heap: np.ndarray, root: int, size: int) -> None:
    """Move the root down until no child is worse than it."""
    while True:
        child = 2 * root + 1
        if child >= size:
            return
        if child + 1 < size and _is_worse(scores, heap[child + 1], heap[child]):
            child += 1
        if not _is_worse(scores, heap[child], heap[root]):
            return
        heap[root], heap[child] = heap[child], heap[root]
        root = child


@kernel
def _is_worse(scores: np.ndarray, a: int, b: int) -> bool:
    return scores[a] < scores[b] or (scores[a] == scores[b] and a > b)
