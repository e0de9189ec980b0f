"""Features of lists as they were when the lists were shown."""

import numpy as np

from online_models.features.extractor import FeatureExtractor
from online_models.state.item_table import ItemLists, UserQueries
from online_models.state.tables import State
from stream.records.batches import ExampleBatch, Kind, flatten_ragged, ragged_starts


class FeatureCache:
    """Features of lists as they were when shown, kept until the outcome is known: a ring of rows.

    Without it a click would be learnt with counts that already hold the click.
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
        """The rows of a list, (length, width), or None if they are forgotten."""
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


_MAX_ABS_VALUE = 100.0  # from zero, of a logged feature: they are logarithms and shares


class ServedFeatures:
    """What was logged by the one who showed a list, or else what was remembered of it here."""

    def __init__(self, features: FeatureExtractor) -> None:
        self._features = features
        self._cache = FeatureCache(len(features))

    def state(self) -> State:
        return self._cache.state()

    def restore(self, state: State) -> None:
        self._cache.restore(state)

    def cache_shown(self, batch: ExampleBatch, users: UserQueries, lists: ItemLists) -> None:
        """Keep the features of what is shown and was not logged with its features."""
        rows = np.flatnonzero((batch.kind == Kind.shown) & ~self._is_served(batch))
        if rows.size:
            x, start = self.compute(users.take(rows), rows, lists)
            self._cache.put(batch.impression[rows], start, x)

    def _is_served(self, batch: ExampleBatch) -> np.ndarray:
        """Rows logged with features that are of this stack's making."""
        if batch.features.shape[1] != len(self._features):
            return np.zeros(len(batch), np.bool_)
        has_features: np.ndarray = (batch.feature_row >= 0) & (
            batch.feature_row + np.diff(batch.lists.start) <= batch.features.shape[0]
        )
        return has_features

    def lookup(
        self, batch: ExampleBatch, rows: np.ndarray, users: UserQueries, lists: ItemLists
    ) -> tuple[np.ndarray, np.ndarray]:
        """Features of lists as served, else as remembered, else as of now; and where each list starts."""
        lengths = np.diff(lists.start)[rows]
        start = ragged_starts(lengths)
        x = np.empty((start[-1], len(self._features)), np.float32)
        is_served, missing = self._is_served(batch), []
        for i, row in enumerate(rows.tolist()):
            cached = self._cache.get(int(batch.impression[row]), int(lengths[i]))
            if is_served[row]:
                first = int(batch.feature_row[row])
                served_features = batch.features[first : first + lengths[i]]
                x[start[i] : start[i + 1]] = np.clip(np.nan_to_num(served_features), -_MAX_ABS_VALUE, _MAX_ABS_VALUE)
            elif cached is not None:
                x[start[i] : start[i + 1]] = cached
            else:
                missing.append(i)
        if missing:
            flat, _ = flatten_ragged(start, np.array(missing))
            x[flat], _ = self.compute(users.take(rows[missing]), rows[missing], lists)
        return x, start

    def compute(self, users: UserQueries, rows: np.ndarray, lists: ItemLists) -> tuple[np.ndarray, np.ndarray]:
        """Features of the chosen lists as of now, for who asked for them; and where each list starts."""
        flat, start = flatten_ragged(lists.start, rows)
        selected_lists = ItemLists(start, lists.row[flat], lists.position[flat], lists.price[flat])
        return self._features.extract(users, selected_lists), start
