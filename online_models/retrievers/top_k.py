"""Indices of the k largest scores, by a heap."""

import numpy as np

from stream.jit import kernel


@kernel
def top_k(scores: np.ndarray, count: int, indices: np.ndarray) -> int:
    """Fill `indices` with the largest of the first `count` scores, best first; return k.

    The root of the heap is the worst index kept. Among equal scores the earlier index is better.
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
    """Move the root down until no child is worse."""
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
