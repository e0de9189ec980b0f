"""Baselines: popularity, co-occurrence, click-through rate and the original order."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.top_k import top_k
from replay.evaluation.ranking_metrics import target_rank
from stream.ids import KeyIndex
from stream.jit import kernel
from stream.records.batches import EventType, ExampleBatch, Kind, flatten_ragged, ragged_starts

HALF_LIVES = (3_600.0, 21_600.0, 86_400.0, 604_800.0)  # seconds, of decayed popularity
HALF_LIFE = 21_600.0  # seconds, of decayed clicks and click-through rates
PRIOR = 20.0  # impressions at the global rate in every click-through rate
_HISTORY_LENGTH = 10  # latest actions of a history that co-occurrence uses
_BACKWARD_WEIGHT = 0.5  # of a pair in reverse order
_HASH_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_RESCALE_HALF_LIVES = 256.0  # half-lives after which decayed counts are rescaled


@dataclass(frozen=True, slots=True)
class RankResult:
    """Rank of the target from 0, infinity if not found, and the keys of the first k items."""

    rank: float
    top: np.ndarray  # (≤ k,) uint64


@dataclass(frozen=True, slots=True)
class ListScores:
    """Scores of the items of shown lists, one entry per item."""

    scores: np.ndarray  # (m,) float, comparable within a list
    probabilities: np.ndarray | None  # (m,) float in (0, 1); None: the model predicts only an order


class ItemIndex:
    """Items with at least one event, in the order of their first event."""

    def __init__(self) -> None:
        self._index = KeyIndex(1024)
        self.keys = np.zeros(1024, np.uint64)
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Rows of keys, (n,) int32; −1 for unknown items."""
        return self._index.lookup(keys)

    def add(self, keys: np.ndarray) -> None:
        _, new_keys = self._index.lookup_or_insert(keys, self._size)
        self.keys = grow(self.keys, self._size + new_keys.size)
        self.keys[self._size : self._size + new_keys.size] = new_keys
        self._size += new_keys.size


def grow(array: np.ndarray, size: int) -> np.ndarray:
    """Return the array, or a copy at least twice as large if it is too small; new entries are 0."""
    if size <= array.shape[0]:
        return array
    larger = np.zeros((max(size, 2 * array.shape[0]), *array.shape[1:]), array.dtype)
    larger[: array.shape[0]] = array
    return larger


def positive_rows(batch: ExampleBatch) -> np.ndarray:
    """Rows of the batch that are actions, except dislikes."""
    return np.flatnonzero((batch.kind == Kind.action) & (batch.type != EventType.dislike))


def get_item_keys(batch: ExampleBatch, rows: np.ndarray) -> np.ndarray:
    """Item keys of action rows."""
    keys: np.ndarray = batch.lists.item[batch.lists.start[rows]]
    return keys


class DecayedCounts:
    """One count per known item that halves every `half_life` seconds; infinity means no decay."""

    def __init__(self, item_index: ItemIndex, half_life: float = np.inf) -> None:
        self._item_index = item_index
        self._half_life_ms = half_life * 1000
        # Relative to `_origin`: later events get a larger weight, so that earlier counts need no update.
        self._values = np.zeros(1024)
        self._origin: int | None = None

    def add(self, keys: np.ndarray, ts: np.ndarray) -> None:
        """Count known items, (n,) keys, at their times in ms."""
        if keys.size == 0:
            return
        self._values = grow(self._values, len(self._item_index))
        self._origin = int(ts[0]) if self._origin is None else self._origin
        if self._exponent(int(ts.max())) > _RESCALE_HALF_LIVES:
            self._values *= np.exp2(-self._exponent(int(ts.max())))
            self._origin = int(ts.max())
        np.add.at(self._values, self._item_index.lookup(keys), np.exp2((ts - self._origin) / self._half_life_ms))

    def raw(self) -> np.ndarray:
        """Counts of all known items, (len(items),) float64, comparable with each other only."""
        self._values = grow(self._values, len(self._item_index))
        return self._values[: len(self._item_index)]

    def decayed_at(self, ts: int) -> np.ndarray:
        """Counts of all known items decayed to `ts`, (len(items),) float64."""
        decayed: np.ndarray = self.raw() * np.exp2(-self._exponent(ts))
        return decayed

    def _exponent(self, ts: int) -> float:
        return 0.0 if self._origin is None else max(-_RESCALE_HALF_LIVES, (ts - self._origin) / self._half_life_ms)


class PopularityBaseline:
    """Rank items by their number of actions."""

    def __init__(self, item_index: ItemIndex, k: int) -> None:
        self._item_index, self._k = item_index, k
        self._counts = DecayedCounts(item_index)

    def rank_target(self, batch: ExampleBatch, i: int, excluded: np.ndarray, target: int) -> RankResult:
        return rank_items(self._item_index, self._counts.raw(), excluded, target, self._k)

    def learn(self, batch: ExampleBatch) -> None:
        rows = positive_rows(batch)
        self._counts.add(get_item_keys(batch, rows), batch.ts[rows])


class DecayedPopularity:
    """Rank items by decayed actions, with the half-life that has had the most hits so far."""

    def __init__(self, item_index: ItemIndex, k: int) -> None:
        self._item_index, self._k = item_index, k
        self._counts = [DecayedCounts(item_index, half_life) for half_life in HALF_LIVES]
        self._hits = np.zeros(len(HALF_LIVES))

    def rank_target(self, batch: ExampleBatch, i: int, excluded: np.ndarray, target: int) -> RankResult:
        results = [rank_items(self._item_index, counts.raw(), excluded, target, self._k) for counts in self._counts]
        best_result = results[int(self._hits.argmax())]
        self._hits += [result.rank < self._k for result in results]
        return best_result

    def learn(self, batch: ExampleBatch) -> None:
        rows = positive_rows(batch)
        for counts in self._counts:
            counts.add(get_item_keys(batch, rows), batch.ts[rows])


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

    def rank_target(self, batch: ExampleBatch, i: int, excluded: np.ndarray, target: int) -> RankResult:
        queries = batch.queries
        end = queries.history_start[i + 1]
        recent = slice(max(queries.history_start[i], end - _HISTORY_LENGTH), end)
        rows = self._item_index.lookup(queries.history_item[recent][queries.history_type[recent] != EventType.dislike])
        counts = self._counts.raw()
        scores = counts * (_BACKWARD_WEIGHT / 2 / (counts.max(initial=0.0) + 1))  # below the smallest pair weight
        self._head = grow(self._head, len(self._item_index))
        _add_pair_weights(rows, self._head, self._next, self._target, self._weight, scores)
        return rank_items(self._item_index, scores, excluded, target, self._k)

    def learn(self, batch: ExampleBatch) -> None:
        rows = positive_rows(batch)
        self._counts.add(get_item_keys(batch, rows), batch.ts[rows])
        queries = batch.queries
        end = queries.history_start[rows + 1]
        first = np.maximum(queries.history_start[rows], end - _HISTORY_LENGTH)
        starts = ragged_starts(end - first)
        flat = np.arange(starts[-1]) - np.repeat(starts[:-1] - first, end - first)
        before, after = queries.history_item[flat], np.repeat(get_item_keys(batch, rows), end - first)
        pairs = (before != after) & (queries.history_type[flat] != EventType.dislike)
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


def rank_items(item_index: ItemIndex, scores: np.ndarray, excluded: np.ndarray, target: int, k: int) -> RankResult:
    """Rank all known items except the excluded ones; infinity for an unknown or excluded target."""
    masked_scores = scores.copy()
    rows = item_index.lookup(excluded)
    masked_scores[rows[rows >= 0]] = -np.inf
    row = int(item_index.lookup(np.array([target], np.uint64))[0])
    rank = np.inf if row < 0 or masked_scores[row] == -np.inf else target_rank(masked_scores, row)
    top_rows = np.empty(k, np.int64)
    top_rows = top_rows[: top_k(masked_scores, masked_scores.size, top_rows)]
    return RankResult(rank, item_index.keys[top_rows[masked_scores[top_rows] > -np.inf]])


def _count_clicks(batch: ExampleBatch, clicks: DecayedCounts) -> None:
    rows = np.flatnonzero((batch.kind == Kind.action) & (batch.type == EventType.click))
    clicks.add(get_item_keys(batch, rows), batch.ts[rows])


def _values_or_zero(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Values of rows; 0 for row −1."""
    result = np.zeros(rows.size)
    result[rows >= 0] = values[rows[rows >= 0]]
    return result


@kernel
def _add_pair_weights(
    rows: np.ndarray, head: np.ndarray, next_: np.ndarray, target: np.ndarray, weight: np.ndarray, scores: np.ndarray
) -> None:
    for i in range(rows.size):
        if rows[i] < 0:
            continue
        pair = head[rows[i]]
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
