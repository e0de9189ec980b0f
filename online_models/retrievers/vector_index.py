"""Inner-product index over item vectors: exact for few, FAISS inverted lists for many.

The index follows from the vectors, so it is no state: a replica builds it when it is first used.
"""

from dataclasses import dataclass

import faiss
import numpy as np

from online_models.retrievers.candidates import CandidateFilter
from online_models.retrievers.top_k import top_k
from online_models.state.workspace import MASKED, mask, unmask
from stream.jit import fastmath_kernel, kernel


@dataclass(frozen=True, slots=True)
class IndexSettings:
    max_exact: int = 20_000  # trained items up to which all are scanned: about 0.1 ms
    probes: int = 16  # inverted lists that a query reads
    vectors_per_list: int = 64  # training vectors per inverted list
    kmeans_iterations: int = 8
    growth: int = 4  # the index is built again when there are so many times more items
    oversampling: int = 2  # results per requested item, because some are excluded

    def __post_init__(self) -> None:
        if min(self.probes, self.vectors_per_list, self.kmeans_iterations, self.growth, self.oversampling) < 1:
            raise ValueError(f"all settings but max_exact must be at least 1, got {self}")


@fastmath_kernel
def _scan(
    user_vectors: np.ndarray, vector: np.ndarray, rows: np.ndarray, candidates: CandidateFilter, result: np.ndarray
) -> None:
    """Write the best of the given rows for each user; a user vector of zeros gets none."""
    eligible, exclusion_start, exclusion, entry_index = candidates
    scores = np.empty(rows.size, np.float32)
    eligible_rows = np.empty(rows.size, np.int32)
    top = np.empty(result.shape[1], np.int64)
    result[:] = -1
    for i in range(user_vectors.shape[0]):
        if not user_vectors[i].any():
            continue
        excluded_rows = exclusion[exclusion_start[i] : exclusion_start[i + 1]]
        mask(excluded_rows, entry_index)
        count = 0
        for r in range(rows.size):
            if eligible[rows[r]] and entry_index[rows[r]] != MASKED:
                score = np.float32(0.0)
                for j in range(vector.shape[1]):
                    score += user_vectors[i, j] * vector[rows[r], j]
                scores[count] = score
                eligible_rows[count] = rows[r]
                count += 1
        unmask(excluded_rows, entry_index)
        for j in range(top_k(scores, count, top)):
            result[i, j] = eligible_rows[top[j]]


@kernel
def _select_eligible(neighbors: np.ndarray, candidates: CandidateFilter, result: np.ndarray) -> None:
    """Write the first neighbors of each user that pass the filter."""
    eligible, exclusion_start, exclusion, entry_index = candidates
    result[:] = -1
    for i in range(neighbors.shape[0]):
        excluded_rows = exclusion[exclusion_start[i] : exclusion_start[i + 1]]
        mask(excluded_rows, entry_index)
        count = 0
        for j in range(neighbors.shape[1]):
            row = neighbors[i, j]
            if count < result.shape[1] and row >= 0 and eligible[row] and entry_index[row] != MASKED:
                result[i, count] = row
                count += 1
        unmask(excluded_rows, entry_index)


class VectorIndex:
    """Search the trained rows by inner product; `update` names the rows that have new vectors."""

    def __init__(self, size: int, settings: IndexSettings | None = None) -> None:
        self.settings = settings or IndexSettings()
        self._size = size
        self._rows = np.zeros(0, np.int32)  # indexed, in order of their first update
        self._is_indexed = np.zeros(0, np.bool_)  # by row
        self._ivf_index: faiss.IndexIVFFlat | None = None
        self._trained_size = 0

    def update(self, rows: np.ndarray, vector: np.ndarray) -> None:
        """Index new vectors of rows; `vector` is the whole column."""
        if rows.size == 0:
            return
        if self._is_indexed.size < vector.shape[0]:
            self._is_indexed = np.pad(self._is_indexed, (0, vector.shape[0] - self._is_indexed.size))
        new_rows = rows[~self._is_indexed[rows]]
        self._is_indexed[rows] = True
        self._rows = np.concatenate([self._rows, new_rows.astype(np.int32)])
        if self._rows.size > max(self.settings.max_exact, self.settings.growth * self._trained_size):
            self._build(vector)
        elif self._ivf_index is not None:
            known_rows = np.setdiff1d(rows, new_rows, assume_unique=True).astype(np.int64)
            self._ivf_index.remove_ids(faiss.IDSelectorArray(known_rows))
            self._ivf_index.add_with_ids(np.ascontiguousarray(vector[rows], np.float32), rows.astype(np.int64))

    def search(self, user_vectors: np.ndarray, vector: np.ndarray, k: int, candidates: CandidateFilter) -> np.ndarray:
        """Return item rows, (n, k) int32, best first, -1 where there are no more."""
        result = np.empty((user_vectors.shape[0], k), np.int32)
        if self._ivf_index is None:
            _scan(user_vectors, vector, self._rows, candidates, result)
            return result
        _, neighbors = self._ivf_index.search(np.ascontiguousarray(user_vectors), self.settings.oversampling * k)
        neighbors[~user_vectors.any(axis=1)] = -1
        _select_eligible(neighbors, candidates, result)
        return result

    def _build(self, vector: np.ndarray) -> None:
        """Find the inverted lists again and put all rows into them."""
        setting = self.settings
        faiss.omp_set_num_threads(1)
        self._trained_size = self._rows.size
        n_lists = 1 << round(np.log2(np.sqrt(self._rows.size)))
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(self._size), self._size, n_lists, faiss.METRIC_INNER_PRODUCT)
        index.set_direct_map_type(faiss.DirectMap.Hashtable)  # type: ignore[attr-defined]
        index.nprobe = setting.probes
        index.cp.niter = setting.kmeans_iterations
        step = max(1, self._rows.size // (setting.vectors_per_list * n_lists))
        index.train(np.ascontiguousarray(vector[self._rows[::step]], np.float32))
        index.add_with_ids(np.ascontiguousarray(vector[self._rows], np.float32), self._rows.astype(np.int64))
        self._ivf_index = index
