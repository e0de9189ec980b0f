"""Rank the targets of many queries among all known items."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import top_k
from replay.evaluation.baselines.item_index import ItemIndex
from stream.jit import kernel
from stream.records.batches import ragged_starts


@dataclass(frozen=True, slots=True)
class TargetQueries:
    """Queries of n actions: each ranks all items but some, and looks for the item of the action."""

    rows: np.ndarray  # (n,) int64, rows of the batch
    target: np.ndarray  # (n,) uint64 item keys
    start: np.ndarray  # (n + 1,) int64: query i excludes the keys [start[i], start[i + 1])
    excluded: np.ndarray  # (x,) uint64 item keys

    def __len__(self) -> int:
        return int(self.rows.size)

    def take(self, first: int, end: int) -> "TargetQueries":
        """Queries [first, end)."""
        start = self.start[first : end + 1]
        excluded = self.excluded[start[0] : start[-1]]
        return TargetQueries(self.rows[first:end], self.target[first:end], start - start[0], excluded)


@dataclass(frozen=True, slots=True)
class RankResults:
    """Results of n queries."""

    rank: np.ndarray  # (n,) float64, rank of the target from 0, ties half; infinity if it was not found
    top: np.ndarray  # (n, k) uint64, keys of the first items, 0 beyond the last one


def make_queries(rows: np.ndarray, target: np.ndarray, excluded: list[list[int]]) -> TargetQueries:
    """Queries of action rows, (n,), with the excluded keys of each."""
    start = ragged_starts(np.array([len(keys) for keys in excluded], np.int64))
    return TargetQueries(rows, target, start, np.array([key for keys in excluded for key in keys], np.uint64))


def rank_items(item_index: ItemIndex, scores: np.ndarray, queries: TargetQueries, k: int) -> RankResults:
    """Rank all known items except the excluded ones, by one score per item for all queries.

    The rank of an unknown or excluded target is infinity.
    """
    rank, top = np.empty(len(queries)), np.empty((len(queries), k), np.int64)
    target, excluded = item_index.lookup(queries.target), item_index.lookup(queries.excluded)
    _rank_all(scores, target, queries.start, excluded, rank, top)
    return RankResults(rank, keys_of_rows(item_index, top))


def keys_of_rows(item_index: ItemIndex, rows: np.ndarray) -> np.ndarray:
    """Keys of item rows; 0 for row -1."""
    keys: np.ndarray = np.where(rows >= 0, item_index.keys[rows], np.uint64(0))
    return keys


@kernel
def rank_one(scores: np.ndarray, target: int, excluded: np.ndarray, top: np.ndarray) -> float:
    """Return the rank of the target, and fill `top` with rows, then -1.

    The scores of excluded rows become -inf.
    """
    for row in excluded:
        if row >= 0:
            scores[row] = -np.inf
    count = top_k(scores, scores.size, top)
    for j in range(top.size):
        if j >= count or scores[top[j]] == -np.inf:
            top[j] = -1
    if target < 0 or scores[target] == -np.inf:
        return np.inf
    n_ahead, n_ties = 0, 0
    for row in range(scores.size):
        n_ahead += scores[row] > scores[target]
        n_ties += scores[row] == scores[target]
    return n_ahead + (n_ties - 1) / 2


@kernel
def _rank_all(
    scores: np.ndarray, target: np.ndarray, start: np.ndarray, excluded: np.ndarray, rank: np.ndarray, top: np.ndarray
) -> None:
    for i in range(target.size):
        rank[i] = rank_one(scores.copy(), target[i], excluded[start[i] : start[i + 1]], top[i])
