"""Baselines that score shown lists: original order, clicks, click-through rate."""

from dataclasses import dataclass

import numpy as np

from replay.evaluation.baselines.decayed_counts import DecayedCounts
from replay.evaluation.baselines.item_index import ItemIndex, get_item_keys
from stream.records.batches import EventType, ExampleBatch, Kind, flatten_ragged

HALF_LIFE = 21_600.0  # seconds, of decayed clicks and click-through rates
PRIOR = 20.0  # impressions at the global rate in every click-through rate


@dataclass(frozen=True, slots=True)
class ListScores:
    """Scores of the items of shown lists, one entry per item."""

    scores: np.ndarray  # (m,) float, comparable within a list
    probabilities: np.ndarray | None  # (m,) float in (0, 1); None: the model predicts only an order


class OriginalOrder:
    """Keep the order in which a list was shown."""

    def score_lists(self, batch: ExampleBatch, rows: np.ndarray) -> ListScores:
        return ListScores(-batch.lists.take(rows).position.astype(np.float32), None)

    def learn(self, batch: ExampleBatch) -> None:
        pass


class DecayedClicks:
    """Score shown items by decayed clicks."""

    def __init__(self, item_index: ItemIndex, half_life: float = HALF_LIFE) -> None:
        self._item_index = item_index
        self._clicks = DecayedCounts(item_index, half_life)

    def score_lists(self, batch: ExampleBatch, rows: np.ndarray) -> ListScores:
        item_rows = self._item_index.lookup(batch.lists.take(rows).item)
        return ListScores(_values_or_zero(self._clicks.raw(), item_rows), None)

    def learn(self, batch: ExampleBatch) -> None:
        _count_clicks(batch, self._clicks)


class DecayedCTR:
    """Score shown items by decayed clicks per impression, smoothed towards the global rate."""

    def __init__(self, item_index: ItemIndex, half_life: float = HALF_LIFE) -> None:
        self._item_index = item_index
        self._clicks, self._impressions = DecayedCounts(item_index, half_life), DecayedCounts(item_index, half_life)

    def score_lists(self, batch: ExampleBatch, rows: np.ndarray) -> ListScores:
        if rows.size == 0:
            return ListScores(np.zeros(0), np.zeros(0))
        now = int(batch.ts[rows].max())
        clicks, impressions = self._clicks.decayed_at(now), self._impressions.decayed_at(now)
        global_rate = (clicks.sum() + 1) / (impressions.sum() + PRIOR)
        item_rows = self._item_index.lookup(batch.lists.take(rows).item)
        item_clicks, item_impressions = (_values_or_zero(counts, item_rows) for counts in (clicks, impressions))
        rate = (item_clicks + PRIOR * global_rate) / (item_impressions + PRIOR)
        return ListScores(rate, np.clip(rate, 0.0, 1.0))

    def learn(self, batch: ExampleBatch) -> None:
        _count_clicks(batch, self._clicks)
        rows = np.flatnonzero(batch.kind == Kind.shown)
        flat, start = flatten_ragged(batch.lists.start, rows)
        self._impressions.add(batch.lists.item[flat], np.repeat(batch.ts[rows], np.diff(start)))


def _count_clicks(batch: ExampleBatch, clicks: DecayedCounts) -> None:
    rows = np.flatnonzero((batch.kind == Kind.action) & (batch.type == EventType.click))
    clicks.add(get_item_keys(batch, rows), batch.ts[rows])


def _values_or_zero(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values of rows; 0 for row −1."""
    result = np.zeros(rows.size)
    result[rows >= 0] = values[rows[rows >= 0]]
    return result
