"""Features of lists as they were when the lists were shown."""

import numpy as np

from online_models.features.extractor import FeatureExtractor
from online_models.state.item_table import ItemLists, UserQueries
from online_models.state.tables import State
from stream.records.batches import ExampleBatch, Kind, ListView, flatten_ragged


class FeatureCache:
    """Ring buffer of the features of shown lists, until their outcome is known.

    Without it a click would train with counts that already contain the click.
    """

    def __init__(self, width: int, rows: int = 1 << 15, lists: int = 1 << 13) -> None:
        self._arrays: State = {
            "rows": np.zeros((rows, width), np.float32),
            "key": np.zeros(lists, np.uint64),
            "begin": np.zeros(lists, np.int64),
            "head": np.zeros(1, np.int64),  # rows ever written
        }

    def put(self, impressions: np.ndarray, start: np.ndarray, x: np.ndarray) -> None:
        rows, head = self._arrays["rows"], self._arrays["head"]
        capacity = rows.shape[0]
        for i, key in enumerate(impressions):
            length = int(start[i + 1] - start[i])
            if key == 0 or length > capacity:
                continue
            slot = int(key) % self._arrays["key"].size
            self._arrays["key"][slot], self._arrays["begin"][slot] = key, head[0]
            rows[np.arange(head[0], head[0] + length) % capacity] = x[start[i] : start[i + 1]]
            head[0] += length

    def get(self, impression: int, length: int) -> np.ndarray | None:
        """The rows of a list, (length, width), or None if they were overwritten."""
        slot = impression % self._arrays["key"].size
        begin, capacity = int(self._arrays["begin"][slot]), self._arrays["rows"].shape[0]
        if self._arrays["key"][slot] != impression or begin + capacity < self._arrays["head"][0] or not impression:
            return None
        rows: np.ndarray = self._arrays["rows"][np.arange(begin, begin + length) % capacity]
        return rows

    def state(self) -> State:
        return self._arrays

    def restore(self, state: State) -> None:
        self._arrays = {name: state[name].copy() for name in self._arrays}


class ServedFeatures:
    """Features that the server logged with a list, or that the learner cached when shown."""

    def __init__(self, features: FeatureExtractor, max_abs_value: float = 100.0) -> None:
        self._features = features
        self._max_abs_value = max_abs_value  # of a logged feature; features are logarithms and shares
        self._cache = FeatureCache(len(features))

    def state(self) -> State:
        return self._cache.state()

    def restore(self, state: State) -> None:
        self._cache.restore(state)

    def cache_shown(self, batch: ExampleBatch, users: UserQueries, lists: ItemLists) -> None:
        """Cache the features of shown lists that were logged without features."""
        shown = batch.view(np.flatnonzero((batch.kind == Kind.shown) & ~self._is_served(batch)))
        if shown.rows.size:
            self._cache.put(
                batch.impression[shown.rows], shown.start, self.compute(users.take(shown.rows), shown, lists)
            )

    def _is_served(self, batch: ExampleBatch) -> np.ndarray:
        """Return the mask of rows, (n,) bool, that were logged with features of this model's width."""
        if batch.features.shape[1] != len(self._features):
            return np.zeros(len(batch), np.bool_)
        has_features: np.ndarray = (batch.feature_row >= 0) & (
            batch.feature_row + np.diff(batch.lists.start) <= batch.features.shape[0]
        )
        return has_features

    def lookup(self, batch: ExampleBatch, view: ListView, users: UserQueries, lists: ItemLists) -> np.ndarray:
        """Features of lists, (m, f) float32: as served, else as cached, else from current counts."""
        x = np.empty((view.flat.size, len(self._features)), np.float32)
        is_served, missing, bounds = self._is_served(batch), [], view.start.tolist()
        for i, row in enumerate(view.rows.tolist()):
            begin, end = bounds[i], bounds[i + 1]
            if is_served[row]:
                first = int(batch.feature_row[row])
                served = batch.features[first : first + end - begin]
                x[begin:end] = np.clip(np.nan_to_num(served), -self._max_abs_value, self._max_abs_value)
            elif (cached := self._cache.get(int(batch.impression[row]), end - begin)) is not None:
                x[begin:end] = cached
            else:
                missing.append(i)
        if missing:
            entries, _ = flatten_ragged(view.start, np.array(missing))
            rows = view.rows[missing]
            x[entries] = self.compute(users.take(rows), batch.view(rows), lists)
        return x

    def compute(self, users: UserQueries, view: ListView, lists: ItemLists) -> np.ndarray:
        """Features of lists from current counts, (m, f) float32, for one query per list of the view."""
        flat = view.flat
        return self._features.extract(
            users, ItemLists(view.start, lists.row[flat], lists.position[flat], lists.price[flat])
        )
