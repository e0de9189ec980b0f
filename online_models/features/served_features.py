"""Features of lists as they were when the lists were shown."""

from typing import NamedTuple

import numpy as np

from online_models.features.extractor import FeatureExtractor
from online_models.features.feature_cache import FeatureCache
from online_models.state.item_table import ItemLists, UserQueries
from online_models.state.tables import State
from stream.records.batches import ExampleBatch, Kind, ListView, flatten_ragged


class TrainingLists(NamedTuple):
    """Lists of a batch whose features are known, and the number of those that were left out."""

    lists: ListView
    x: np.ndarray  # (m, f) float32
    n_forgotten: int


class ServedFeatures:
    """Features that the server logged with a list, or that the learner cached when shown."""

    def __init__(self, features: FeatureExtractor, max_abs_value: float = 100.0) -> None:
        self._features = features
        self._max_abs_value = max_abs_value  # of a logged feature; features are logarithms and shares
        self._cache = FeatureCache(len(features))

    def state(self) -> State:
        return self._cache.state()

    def restore(self, state: State) -> None:
        """Copy the cache, unless its features are of another width."""
        self._cache.restore(state)

    def cache_shown(self, batch: ExampleBatch, users: UserQueries, lists: ItemLists) -> None:
        """Cache the features of shown lists that were logged without features."""
        shown = batch.view(np.flatnonzero((batch.kind == Kind.shown) & ~self._is_served(batch)))
        if shown.rows.size:
            x = self.compute(users.take(shown.rows), shown, lists)
            self._cache.put(batch.impression[shown.rows], shown.start, x)

    def lookup(self, batch: ExampleBatch, kind: Kind, users: UserQueries, lists: ItemLists) -> TrainingLists:
        """Lists of one kind with their features: as served, as cached, or as of now if just shown.

        Other lists are left out: features of now contain what happened to the list since.
        """
        view = batch.select(kind)
        is_served = self._is_served(batch)[view.rows]
        impressions = batch.impression[view.rows]
        x = np.empty((view.flat.size, len(self._features)), np.float32)
        self._copy_served(x, batch, view, is_served)
        is_cached = ~is_served
        is_cached[~is_served] = self._copy_cached(x, impressions, view, np.flatnonzero(~is_served))
        is_new = ~is_served & ~is_cached & np.isin(impressions, batch.impression[batch.kind == Kind.shown])
        if is_new.any():
            rows, entries = view.rows[is_new], flatten_ragged(view.start, np.flatnonzero(is_new))[0]
            x[entries] = self.compute(users.take(rows), batch.view(rows), lists)
        if kind == Kind.closed:
            self._cache.adapt_share(impressions[~is_served & ~is_new], is_cached[~is_served & ~is_new])
        is_known = is_served | is_cached | is_new
        if is_known.all():
            return TrainingLists(view, x, 0)
        entries = flatten_ragged(view.start, np.flatnonzero(is_known))[0]
        return TrainingLists(batch.view(view.rows[is_known]), x[entries], int((~is_known).sum()))

    def compute(self, users: UserQueries, view: ListView, lists: ItemLists) -> np.ndarray:
        """Features of lists from current counts, (m, f) float32, for one query per list of the view."""
        flat = view.flat
        return self._features.extract(
            users, ItemLists(view.start, lists.row[flat], lists.position[flat], lists.price[flat])
        )

    def _is_served(self, batch: ExampleBatch) -> np.ndarray:
        """Return the mask of rows, (n,) bool, that were logged with features of this model's width."""
        if batch.features.shape[1] != len(self._features):
            return np.zeros(len(batch), np.bool_)
        has_features: np.ndarray = (batch.feature_row >= 0) & (
            batch.feature_row + np.diff(batch.lists.start) <= batch.features.shape[0]
        )
        return has_features

    def _copy_served(self, x: np.ndarray, batch: ExampleBatch, view: ListView, is_served: np.ndarray) -> None:
        if not is_served.any():  # logged features may have another width
            return
        entries, start = flatten_ragged(view.start, np.flatnonzero(is_served))
        first = batch.feature_row[view.rows[is_served]].astype(np.int64)
        served = batch.features[np.arange(start[-1]) + np.repeat(first - start[:-1], np.diff(start))]
        x[entries] = np.clip(np.nan_to_num(served), -self._max_abs_value, self._max_abs_value)

    def _copy_cached(self, x: np.ndarray, impressions: np.ndarray, view: ListView, lists: np.ndarray) -> np.ndarray:
        """Copy the features of these lists, (n,) int64; return the mask of those found, (n,)."""
        entries, start = flatten_ragged(view.start, lists)
        cached = np.empty((entries.size, x.shape[1]), np.float32)
        is_found = self._cache.copy_to(cached, impressions[lists], start)
        x[entries] = cached
        return is_found
