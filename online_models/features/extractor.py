"""The numbers that say how a person and an item stand to one another at a moment: one row per (question, candidate)."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from online_models.features.category_affinity import CATEGORY_FEATURES, category_affinity_block
from online_models.features.feature_kernels import (
    CONTEXT_FEATURES,
    ITEM_FEATURES,
    LIST_FEATURES,
    N_LOG_FEATURES,
    RELATIVE_FEATURES,
    USER_ITEM_FEATURES,
    item_block,
    list_block,
    log_columns,
    relative_to_best,
    user_item_block,
)
from online_models.state.item_table import HORIZONS, ItemLists, ItemTable, UserQueries
from online_models.state.workspace import Workspace


class ScoringRetriever(Protocol):
    """A retriever that also says, for any item, how strongly it would have found it."""

    names: tuple[str, ...]
    scales: tuple[float, ...]  # scores ≥ 0 enter as log(1 + scale · score), those of scale 0 as they are

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        """Write scores into columns of `out` that hold zeros."""
        ...


class FeatureExtractor:
    """All blocks side by side. Asking leaves every state alone."""

    def __init__(self, items: ItemTable, retrievers: Sequence[ScoringRetriever], workspace: Workspace) -> None:
        self._items, self._retrievers, self._scratch = items, retrievers, workspace
        score_names = tuple(name for retriever in retrievers for name in retriever.names)
        absolute = (
            *ITEM_FEATURES,
            *USER_ITEM_FEATURES,
            *CATEGORY_FEATURES,
            *LIST_FEATURES,
            *CONTEXT_FEATURES,
            *score_names,
        )
        relative = (*RELATIVE_FEATURES, *score_names)
        self.names = (*absolute, *(f"{name}_minus_best" for name in relative))
        self._relative_columns = np.array([absolute.index(name) for name in relative], np.int64)
        self._n_absolute = len(absolute)
        personal_names = {*USER_ITEM_FEATURES, *CATEGORY_FEATURES, "price_vs_history", "history_length", *score_names}
        self.is_personal = np.array(
            [name.removesuffix("_minus_best") in personal_names for name in self.names]
        )  # 0 for a stranger
        self._scales = np.array([scale for retriever in retrievers for scale in retriever.scales], np.float32)

    def __len__(self) -> int:
        return len(self.names)

    def extract(self, users: UserQueries, lists: ItemLists) -> np.ndarray:
        """One row per list entry, (m, len(self)) float32, all finite."""
        out = np.zeros((lists.row.size, len(self)), np.float32)
        queries, counters, catalog = users.queries, self._items.counters, self._items.catalog
        entry_index = self._scratch.reserve(len(self._items))
        item_block(
            queries.ts, lists.start, lists.row, HORIZONS, counters["counts"], counters["stamp"], counters["first"],
            counters["last"], counters["rating"], catalog["created"], out, 0,
        )  # fmt: skip
        np.log(out[:, :N_LOG_FEATURES], out=out[:, :N_LOG_FEATURES])  # many at once
        column = len(ITEM_FEATURES)
        user_item_block(
            queries.ts, queries.session_start, queries.history_start, users.history, queries.history_type,
            queries.history_ts, queries.shown_start, users.shown, lists.start, lists.row, entry_index, out, column,
        )  # fmt: skip
        column += len(USER_ITEM_FEATURES)
        category_affinity_block(
            queries.history_start, users.history, queries.shown_start, users.shown, catalog["categories"],
            lists.start, lists.row, out, column,
        )  # fmt: skip
        column += len(CATEGORY_FEATURES)
        list_block(
            queries.ts, queries.session_start, queries.session_depth, queries.history_start, users.history,
            catalog["price"], lists.start, lists.row, lists.position, lists.price, out, column,
        )  # fmt: skip
        column += len(LIST_FEATURES) + len(CONTEXT_FEATURES)
        score_column = column
        for retriever in self._retrievers:
            retriever.write_scores(users, lists, out, column)
            column += len(retriever.names)
        log_columns(out, score_column, self._scales)
        relative_to_best(lists.start, out, self._relative_columns, self._n_absolute)
        return out
