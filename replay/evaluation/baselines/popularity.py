"""Rank items by their number of actions, at once or decayed."""

import numpy as np

from replay.evaluation.baselines.decayed_counts import DecayedCounts
from replay.evaluation.baselines.item_index import ItemIndex, get_item_keys, positive_rows
from replay.evaluation.baselines.ranking import RankResults, TargetQueries, rank_items
from stream.records.batches import ExampleBatch

HALF_LIVES = (3_600.0, 21_600.0, 86_400.0, 604_800.0)  # seconds, of decayed popularity


class PopularityBaseline:
    """Rank items by their number of actions."""

    def __init__(self, item_index: ItemIndex, k: int) -> None:
        self._item_index, self._k = item_index, k
        self._counts = DecayedCounts(item_index)

    def rank_targets(self, batch: ExampleBatch, queries: TargetQueries) -> RankResults:
        return rank_items(self._item_index, self._counts.raw(), queries, self._k)

    def learn(self, batch: ExampleBatch) -> None:
        rows = positive_rows(batch)
        self._counts.add(get_item_keys(batch, rows), batch.ts[rows])


class DecayedPopularity:
    """Rank items by decayed actions, with the half-life that has had the most hits so far."""

    def __init__(self, item_index: ItemIndex, k: int) -> None:
        self._item_index, self._k = item_index, k
        self._counts = [DecayedCounts(item_index, half_life) for half_life in HALF_LIVES]
        self._hits = np.zeros(len(HALF_LIVES))

    def rank_targets(self, batch: ExampleBatch, queries: TargetQueries) -> RankResults:
        results = [rank_items(self._item_index, counts.raw(), queries, self._k) for counts in self._counts]
        hits = np.array([result.rank < self._k for result in results]).T  # (queries, half-lives)
        hits_before = self._hits + np.cumsum(hits, axis=0) - hits
        best, n = hits_before.argmax(axis=1), np.arange(len(queries))
        self._hits += hits.sum(axis=0)
        ranks, tops = (np.stack([getattr(result, name) for result in results]) for name in ("rank", "top"))
        return RankResults(ranks[best, n], tops[best, n])

    def learn(self, batch: ExampleBatch) -> None:
        rows = positive_rows(batch)
        for counts in self._counts:
            counts.add(get_item_keys(batch, rows), batch.ts[rows])
