"""Rank items by co-occurrence with the user's last actions."""

from typing import NamedTuple

import numpy as np

from replay.evaluation.baselines.decayed_counts import DecayedCounts
from replay.evaluation.baselines.item_index import ItemIndex, get_item_keys, grow, positive_rows
from replay.evaluation.baselines.ranking import RankResults, TargetQueries, keys_of_rows, rank_one
from stream.ids import KeyIndex
from stream.jit import kernel
from stream.records.batches import ExampleBatch, ragged_starts
from stream.records.signs import is_disliked

_HISTORY_LENGTH = 10  # latest actions of a history that co-occurrence uses
_BACKWARD_WEIGHT = 0.5  # of a pair in reverse order
_HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class _Pairs(NamedTuple):
    """Pairs of items as linked lists, one per source."""

    head: np.ndarray  # (items,) int32, index + 1 of the first pair of an item, 0 = none
    next: np.ndarray  # (pairs,) int32, index + 1 of the next pair of the same item
    target: np.ndarray  # (pairs,) int32 item rows
    weight: np.ndarray  # (pairs,) float32


class Cooccurrence:
    """Rank items by co-occurrence with the user's last ten actions.

    Two actions of one user co-occur within ten actions; the later item gets weight 1, the earlier one 0.5.
    Popularity breaks ties and serves users without history.
    """

    def __init__(self, item_index: ItemIndex, k: int) -> None:
        self._item_index, self._k = item_index, k
        self._counts = DecayedCounts(item_index)
        self._pair_index = KeyIndex(1 << 16)
        self._n_pairs = 0
        self._weight, self._target = np.zeros(1 << 16, np.float32), np.zeros(1 << 16, np.int32)
        self._next = np.zeros(1 << 16, np.int32)  # linked list of the pairs of an item, as index + 1; 0 ends it
        self._head = np.zeros(1024, np.int32)

    def rank_targets(self, batch: ExampleBatch, queries: TargetQueries) -> RankResults:
        counts = self._counts.raw()
        ties = counts * (_BACKWARD_WEIGHT / 2 / (counts.max(initial=0.0) + 1))  # below the smallest pair weight
        self._head = grow(self._head, len(self._item_index))
        pairs = _Pairs(self._head, self._next, self._target, self._weight)
        rank, top = np.empty(len(queries)), np.empty((len(queries), self._k), np.int64)
        target, excluded = self._item_index.lookup(queries.target), self._item_index.lookup(queries.excluded)
        _rank_all(ties, pairs, *self._recent_items(batch, queries.rows), target, queries.start, excluded, rank, top)
        return RankResults(rank, keys_of_rows(self._item_index, top))

    def _recent_items(self, batch: ExampleBatch, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Starts, (n + 1,), and item rows of the last actions of each query; -1 for dislikes."""
        queries = batch.queries
        end = queries.history_start[rows + 1]
        first = np.maximum(queries.history_start[rows], end - _HISTORY_LENGTH)
        start = ragged_starts(end - first)
        flat = np.arange(start[-1]) - np.repeat(start[:-1] - first, end - first)
        items = self._item_index.lookup(queries.history_item[flat])
        return start, np.where(is_disliked(queries.history_type[flat]), np.int32(-1), items)

    def learn(self, batch: ExampleBatch) -> None:
        rows = positive_rows(batch)
        self._counts.add(get_item_keys(batch, rows), batch.ts[rows])
        queries = batch.queries
        end = queries.history_start[rows + 1]
        first = np.maximum(queries.history_start[rows], end - _HISTORY_LENGTH)
        starts = ragged_starts(end - first)
        flat = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, end - first)
        before, after = queries.history_item[flat], np.repeat(get_item_keys(batch, rows), end - first)
        pairs = (before != after) & ~is_disliked(queries.history_type[flat])
        self._add(before[pairs], after[pairs], 1.0)
        self._add(after[pairs], before[pairs], _BACKWARD_WEIGHT)

    def _add(self, source: np.ndarray, target: np.ndarray, weight: float) -> None:
        pair_ids, added = self._pair_index.lookup_or_insert(source * _HASH_MULTIPLIER ^ target, self._n_pairs)
        old_size, self._n_pairs = self._n_pairs, self._n_pairs + added.size
        columns = (self._weight, self._target, self._next)
        self._weight, self._target, self._next = (grow(column, self._n_pairs) for column in columns)
        self._head = grow(self._head, len(self._item_index))
        np.add.at(self._weight, pair_ids, np.float32(weight))
        new, positions = np.unique(pair_ids, return_index=True)
        new, positions = new[new >= old_size], positions[new >= old_size]
        sources, targets = (self._item_index.lookup(keys[positions]) for keys in (source, target))
        _link_pairs(new, sources, targets, self._head, self._next, self._target)


@kernel
def _rank_all(
    ties: np.ndarray,
    pairs: _Pairs,
    recent_start: np.ndarray,
    recent: np.ndarray,
    target: np.ndarray,
    start: np.ndarray,
    excluded: np.ndarray,
    rank: np.ndarray,
    top: np.ndarray,
) -> None:
    for i in range(target.size):
        scores = ties.copy()
        _add_pair_weights(recent[recent_start[i] : recent_start[i + 1]], pairs, scores)
        rank[i] = rank_one(scores, target[i], excluded[start[i] : start[i + 1]], top[i])


@kernel
def _add_pair_weights(rows: np.ndarray, pairs: _Pairs, scores: np.ndarray) -> None:
    head, next_, target, weight = pairs
    for row in rows:
        pair = head[row] if row >= 0 else 0
        while pair:
            scores[target[pair - 1]] += weight[pair - 1]
            pair = next_[pair - 1]


@kernel
def _link_pairs(
    pairs: np.ndarray, sources: np.ndarray, targets: np.ndarray, head: np.ndarray, next_: np.ndarray, target: np.ndarray
) -> None:
    for i in range(pairs.size):
        target[pairs[i]] = targets[i]
        next_[pairs[i]] = head[sources[i]]
        head[sources[i]] = pairs[i] + 1
