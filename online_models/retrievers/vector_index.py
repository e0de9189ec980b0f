"""A live index over the two-tower's item vectors: exact while they are few, FAISS's inverted lists beyond.

It is made of the vectors and holds nothing of its own, so it is no state: a replica builds it when first asked.
"""

import faiss
import numpy as np

from online_models.retrievers.top_k import HIDDEN, Hidden, best, hide, show
from stream.jit import kernel, summing_kernel

_EXACT = 20_000  # trained items up to which all are scanned: about 0.1 ms
_PROBES = 16  # inverted lists that a question reads
_TRAINED_ON = 64  # vectors per list by which the lists are found
_ROUNDS = 8  # of k-means
_GROWTH = 4  # the lists are found anew when there are so many times more items


@summing_kernel
def _scan(
    users: np.ndarray, vector: np.ndarray, rows: np.ndarray, eligible: np.ndarray, hidden_start: np.ndarray,
    hidden: np.ndarray, place: np.ndarray, result: np.ndarray,
) -> None:  # fmt: skip
    """The best of the given rows for each person; a person of zeros gets none."""
    scores = np.empty(rows.size, np.float32)
    kept = np.empty(rows.size, np.int32)
    chosen = np.empty(result.shape[1], np.int64)
    result[:] = -1
    for i in range(users.shape[0]):
        if not users[i].any():
            continue
        hide(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        count = 0
        for r in range(rows.size):
            if eligible[rows[r]] and place[rows[r]] != HIDDEN:
                score = np.float32(0.0)
                for j in range(vector.shape[1]):
                    score += users[i, j] * vector[rows[r], j]
                scores[count] = score
                kept[count] = rows[r]
                count += 1
        show(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        for j in range(best(scores, count, chosen)):
            result[i, j] = kept[chosen[j]]


@kernel
def _keep(
    found: np.ndarray, eligible: np.ndarray, hidden_start: np.ndarray, hidden: np.ndarray, place: np.ndarray,
    result: np.ndarray,
) -> None:  # fmt: skip
    """The first of what was found for each person that may be found."""
    result[:] = -1
    for i in range(found.shape[0]):
        hide(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        kept = 0
        for j in range(found.shape[1]):
            row = found[i, j]
            if kept < result.shape[1] and row >= 0 and eligible[row] and place[row] != HIDDEN:
                result[i, kept] = row
                kept += 1
        show(hidden[hidden_start[i] : hidden_start[i + 1]], place)


class TowerIndex:
    """Inner-product search over the rows that were ever trained. `update` says which rows have new vectors."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows = np.zeros(0, np.int32)  # indexed, in order of first sight
        self._known = np.zeros(0, np.bool_)  # by row
        self._lists: faiss.IndexIVFFlat | None = None
        self._trained_at = 0

    def update(self, rows: np.ndarray, vector: np.ndarray) -> None:
        """Take in new vectors of rows; `vector` is the whole column."""
        if rows.size == 0:
            return
        if self._known.size < vector.shape[0]:
            self._known = np.concatenate([self._known, np.zeros(vector.shape[0] - self._known.size, np.bool_)])
        fresh = rows[~self._known[rows]]
        self._known[rows] = True
        self._rows = np.concatenate([self._rows, fresh.astype(np.int32)])
        if self._rows.size > max(_EXACT, _GROWTH * self._trained_at):
            self._build(vector)
        elif self._lists is not None:
            old = np.setdiff1d(rows, fresh, assume_unique=True).astype(np.int64)
            self._lists.remove_ids(faiss.IDSelectorArray(old))
            self._lists.add_with_ids(np.ascontiguousarray(vector[rows], np.float32), rows.astype(np.int64))

    def search(
        self, users: np.ndarray, vector: np.ndarray, k: int, eligible: np.ndarray, hidden: Hidden, place: np.ndarray
    ) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more; `place` as in `Scratch`."""
        result = np.empty((users.shape[0], k), np.int32)
        if self._lists is None:
            _scan(users, vector, self._rows, eligible, hidden.start, hidden.row, place, result)
            return result
        # Twice as many as asked for, because some may not be found.
        _, found = self._lists.search(np.ascontiguousarray(users), 2 * k)
        found[~users.any(axis=1)] = -1
        _keep(found, eligible, hidden.start, hidden.row, place, result)
        return result

    def _build(self, vector: np.ndarray) -> None:
        """Find the lists anew and put all rows into them."""
        faiss.omp_set_num_threads(1)
        self._trained_at = self._rows.size
        lists = 1 << round(np.log2(np.sqrt(self._rows.size)))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self._size), self._size, lists, faiss.METRIC_INNER_PRODUCT)
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
        index.nprobe = _PROBES
        index.cp.niter = _ROUNDS
        step = max(1, self._rows.size // (_TRAINED_ON * lists))
        index.train(np.ascontiguousarray(vector[self._rows[::step]], np.float32))
        index.add_with_ids(np.ascontiguousarray(vector[self._rows], np.float32), self._rows.astype(np.int64))
        self._lists = index
