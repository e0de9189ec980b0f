"""Ranking features of each item for each query: blocks of columns side by side."""

from collections.abc import Sequence

import numpy as np

from online_models.features.category_affinity import CATEGORY_FEATURES, category_affinity_block
from online_models.features.feature_kernels import (
    CONTEXT_FEATURES,
    ITEM_FEATURES,
    LIST_FEATURES,
    N_LOG_FEATURES,
    PLACE_FEATURES,
    POSITION_FEATURES,
    RELATIVE_FEATURES,
    USER_ITEM_FEATURES,
    item_block,
    list_block,
    log_columns,
    relative_to_best,
    user_item_block,
)
from online_models.retrievers.retriever import Scorer
from online_models.state.item_table import (
    CatalogColumns,
    ItemCounters,
    ItemLists,
    ItemTable,
    QueryColumns,
    UserQueries,
)
from online_models.state.workspace import Workspace
from stream.jit import as_tuple, kernel

OWN_FEATURES = (*ITEM_FEATURES, *USER_ITEM_FEATURES, *CATEGORY_FEATURES, *LIST_FEATURES, *CONTEXT_FEATURES)
_USER_ITEM_COLUMN = len(ITEM_FEATURES)
_CATEGORY_COLUMN = _USER_ITEM_COLUMN + len(USER_ITEM_FEATURES)
_LIST_COLUMN = _CATEGORY_COLUMN + len(CATEGORY_FEATURES)


@kernel
def write_own_features(
    queries: QueryColumns, lists: ItemLists, counters: ItemCounters, catalog: CatalogColumns, entry_index: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Fill the columns of OWN_FEATURES, all blocks in one call."""
    categories, created, price = catalog
    item_block(queries[0], counters, created, lists, out)
    user_item_block(queries, lists, entry_index, out, _USER_ITEM_COLUMN)
    category_affinity_block(queries, categories, lists, out, _CATEGORY_COLUMN)
    list_block(queries, lists, price, out, _LIST_COLUMN)


class FeatureExtractor:
    """Compute features by name. Extracting them changes no state."""

    def __init__(self, items: ItemTable, scorers: Sequence[Scorer] = (), workspace: Workspace | None = None) -> None:
        self._items, self._workspace = items, workspace or Workspace()
        self._scorers = tuple(scorer for scorer in scorers if scorer.names)
        score_names = tuple(name for scorer in scorers for name in scorer.names)
        absolute, relative = (*OWN_FEATURES, *score_names), (*RELATIVE_FEATURES, *score_names)
        self.names = (*absolute, *(f"{name}_minus_best" for name in relative))
        self._relative_columns = np.array([absolute.index(name) for name in relative], np.int64)
        self._n_own, self._n_absolute = len(OWN_FEATURES), len(absolute)
        personal_names = {*USER_ITEM_FEATURES, *CATEGORY_FEATURES, "price_vs_history", "history_length", *score_names}
        # (len(self),) bool: features that are 0 for an unknown user.
        self.is_personal = np.array([name.removesuffix("_minus_best") in personal_names for name in self.names])
        position_names = (*POSITION_FEATURES, *PLACE_FEATURES)
        self.position_columns = np.array([self.names.index(name) for name in position_names], np.int64)
        self._scales = np.array([scale for scorer in scorers for scale in scorer.scales], np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def extract(self, users: UserQueries, lists: ItemLists) -> np.ndarray:
        """Return one row per list entry, (m, len(self)) float32, all finite."""
        out = np.zeros((lists.row.size, len(self)), np.float32)
        items, entry_index = self._items, self._workspace.reserve(len(self._items))
        columns = users.columns, lists, items.counter_columns, items.catalog_columns
        write_own_features(*map(as_tuple, columns), entry_index, out)
        np.log(out[:, :N_LOG_FEATURES], out=out[:, :N_LOG_FEATURES])  # many at once
        column = score_column = self._n_own
        for scorer in self._scorers:
            scorer.write_scores(users, lists, out, column)
            column += len(scorer.names)
        log_columns(out, score_column, self._scales)
        relative_to_best(lists.start, out, self._relative_columns, self._n_absolute)
        return out
