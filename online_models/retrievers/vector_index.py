"""A live index over the two-tower's item vectors: exact while they are few, FAISS's inverted lists beyond.

It is made of the vectors and holds nothing of its own, so it is no state: a replica builds it when first asked.
"""

import faiss
import numpy as np

from online_models.retrievers.top_k import MASKED, Exclusions, mask, top_k, unmask
from stream.jit import fastmath_kernel, kernel

_MAX_EXACT = 20_000  # trained items up to which all are scanned: about 0.1 ms
_PROBES = 16  # inverted lists that a question reads
_VECTORS_PER_LIST = 64  # vectors per list by which the lists are found
_KMEANS_ITERATIONS = 8  # of k-means
_GROWTH = 4  # the lists are found anew when there are so many times more items


@fastmath_kernel
def _scan(
    user_vectors: np.ndarray, vector: np.ndarray, rows: np.ndarray, eligible: np.ndarray, exclusion_start: np.ndarray,
    exclusions: np.ndarray, entry_index: np.ndarray, result: np.ndarray,
) -> None:  # fmt: skip
    """The best of the given rows for each person; a person of zeros gets none."""
    scores = np.empty(rows.size, np.float32)
    eligible_rows = np.empty(rows.size, np.int32)
    top = np.empty(result.shape[1], np.int64)
    result[:] = -1
    for i in range(user_vectors.shape[0]):
        if not user_vectors[i].any():
            continue
        mask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        count = 0
        for r in range(rows.size):
            if eligible[rows[r]] and entry_index[rows[r]] != MASKED:
                score = np.float32(0.0)
                for j in range(vector.shape[1]):
                    score += user_vectors[i, j] * vector[rows[r], j]
                scores[count] = score
                eligible_rows[count] = rows[r]
                count += 1
        unmask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        for j in range(top_k(scores, count, top)):
            result[i, j] = eligible_rows[top[j]]


@kernel
def _filter_eligible(
    neighbors: np.ndarray, eligible: np.ndarray, exclusion_start: np.ndarray, exclusions: np.ndarray, entry_index: np.ndarray,
    result: np.ndarray,
) -> None:  # fmt: skip
    """The first of what was found for each person that may be found."""
    result[:] = -1
    for i in range(neighbors.shape[0]):
        mask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
        count = 0
        for j in range(neighbors.shape[1]):
            row = neighbors[i, j]
            if count < result.shape[1] and row >= 0 and eligible[row] and entry_index[row] != MASKED:
                result[i, count] = row
                count += 1
        unmask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)


class VectorIndex:
    """Inner-product search over the rows that were ever trained. `update` says which rows have new vectors."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rows = np.zeros(0, np.int32)  # indexed, in order of first sight
        self._is_indexed = np.zeros(0, np.bool_)  # by row
        self._ivf_index: faiss.IndexIVFFlat | None = None
        self._trained_size = 0

    def update(self, rows: np.ndarray, vector: np.ndarray) -> None:
        """Take in new vectors of rows; `vector` is the whole column."""
        if rows.size == 0:
            return
        if self._is_indexed.size < vector.shape[0]:
            self._is_indexed = np.concatenate(
                [self._is_indexed, np.zeros(vector.shape[0] - self._is_indexed.size, np.bool_)]
            )
        new_rows = rows[~self._is_indexed[rows]]
        self._is_indexed[rows] = True
        self._rows = np.concatenate([self._rows, new_rows.astype(np.int32)])
        if self._rows.size > max(_MAX_EXACT, _GROWTH * self._trained_size):
            self._build(vector)
        elif self._ivf_index is not None:
            known_rows = np.setdiff1d(rows, new_rows, assume_unique=True).astype(np.int64)
            self._ivf_index.remove_ids(faiss.IDSelectorArray(known_rows))
            self._ivf_index.add_with_ids(np.ascontiguousarray(vector[rows], np.float32), rows.astype(np.int64))

    def search(
        self,
        user_vectors: np.ndarray,
        vector: np.ndarray,
        k: int,
        eligible: np.ndarray,
        exclusions: Exclusions,
        entry_index: np.ndarray,
    ) -> np.ndarray:
        """Item rows, (n, k) int32, best first, -1 where there are no more; `place` as in `Scratch`."""
        result = np.empty((user_vectors.shape[0], k), np.int32)
        if self._ivf_index is None:
            _scan(user_vectors, vector, self._rows, eligible, exclusions.start, exclusions.row, entry_index, result)
            return result
        # Twice as many as asked for, because some may not be found.
        _, neighbors = self._ivf_index.search(np.ascontiguousarray(user_vectors), 2 * k)
        neighbors[~user_vectors.any(axis=1)] = -1
        _filter_eligible(neighbors, eligible, exclusions.start, exclusions.row, entry_index, result)
        return result

    def _build(self, vector: np.ndarray) -> None:
        """Find the lists anew and put all rows into them."""
        faiss.omp_set_num_threads(1)
        self._trained_size = self._rows.size
        n_lists = 1 << round(np.log2(np.sqrt(self._rows.size)))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self._size), self._size, n_lists, faiss.METRIC_INNER_PRODUCT)
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
        index.nprobe = _PROBES
        index.cp.niter = _KMEANS_ITERATIONS
        step = max(1, self._rows.size // (_VECTORS_PER_LIST * n_lists))
        index.train(np.ascontiguousarray(vector[self._rows[::step]], np.float32))
        index.add_with_ids(np.ascontiguousarray(vector[self._rows], np.float32), self._rows.astype(np.int64))
        self._ivf_index = index
