"""EASE: ridge regression of each item on the others (Steck, WWW 2019)."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from online_models.retrievers.candidates import CandidateFilter, Channel, Exclusions, make_filter
from online_models.retrievers.history_scan import (
    SourceLists,
    Sources,
    allocate_sources,
    retrieve_from_sources,
    write_source_scores,
)
from online_models.retrievers.item_regression.pair_counts import ChangedEntries, PairCounts, count_pairs, recount_pairs
from online_models.retrievers.retriever import Retriever
from online_models.retrievers.top_k import top_k
from online_models.state.history_changes import HistoryChanges
from online_models.state.item_table import NO_TIME, Actions, ItemLists, ItemTable, UserQueries
from online_models.state.tables import State
from online_models.state.workspace import Workspace
from stream.jit import as_tuple, kernel


@dataclass(frozen=True, slots=True)
class EaseSettings:
    """Settings of the regression; the items bound its memory and the cost of a fit."""

    items: int = 512  # that have weights: the most frequent ones
    ridge: float = 100.0  # λ of the paper
    min_interval: int = 64  # actions between two fits
    interval_ratio: float = 0.5  # of the actions so far, between the two limits
    max_interval: int = 65_536
    half_life: float = 90 * 86_400.0  # seconds, of a pair
    evicted_ratio: float = 0.125  # of the items, freed by a fit when there is no space for new ones
    neighbors: int = 128  # weights kept of an item, those of the greatest size
    depth: int = 32  # latest history items that are scored
    recency_decay: float = 0.8  # factor of a history item's weight per later item, in the second score

    def __post_init__(self) -> None:
        if not (min(self.items, self.neighbors, self.depth) >= 1 and 1 <= self.min_interval <= self.max_interval):
            raise ValueError(f"items, neighbors, depth and intervals must be at least 1, in order, got {self}")
        if not (min(self.ridge, self.half_life) > 0 and self.interval_ratio >= 0):
            raise ValueError(f"ridge and half_life must be positive and interval_ratio at least 0, got {self}")
        if not (0 < self.evicted_ratio < 1 and 0 < self.recency_decay <= 1):
            raise ValueError(f"evicted_ratio must be in (0, 1) and recency_decay in (0, 1], got {self}")


def fit_weights(pairs: np.ndarray, ridge: float) -> np.ndarray:
    """Return the weights of EASE, (n, n) float32, from pair counts: equation 8 of the paper.

    Entry (i, j) is what item i of a history adds to the score of item j; the diagonal is 0. Counts of histories that
    are cut or changed may not be positive definite; they get a greater ridge.
    """
    identity = np.eye(pairs.shape[0], dtype=np.float32)
    while not _is_positive_definite(gram := pairs + np.float32(ridge) * identity):
        ridge *= 2.0
    inverse = np.linalg.inv(gram)
    weights: np.ndarray = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return weights


def _is_positive_definite(matrix: np.ndarray) -> bool:
    try:
        np.linalg.cholesky(matrix)
    except np.linalg.LinAlgError:
        return False
    return True


@kernel
def _select_neighbors(weights: np.ndarray, item: np.ndarray, lists: SourceLists) -> None:
    """Write the weights of the greatest size of each item, and the items that they lead to."""
    neighbor, weight = lists
    neighbor[:], weight[:] = -1, np.float32(0.0)
    top = np.empty(neighbor.shape[1], np.int64)
    for i in range(weights.shape[0]):
        for j in range(top_k(np.abs(weights[i]), weights.shape[0], top)):
            if weights[i, top[j]] == 0.0:
                break
            neighbor[i, j], weight[i, j] = item[top[j]], weights[i, top[j]]


@kernel
def _find_sources(
    start: np.ndarray, history: np.ndarray, slot_by_row: np.ndarray, depth: int, recency_decay: float
) -> Sources:
    """Return the latest history items that have slots as the sources of each query.

    Score 0 is the sum of their weights, score 1 the sum by recency.
    """
    sources = allocate_sources(start.size - 1, history.size, 2)
    source_start, row, scale, coefficient = sources
    count = 0
    for i in range(start.size - 1):
        amount = np.float32(1.0)
        for back in range(min(depth, start[i + 1] - start[i])):
            item = history[start[i + 1] - 1 - back]
            if item >= 0 and slot_by_row[item] >= 0:
                row[count], scale[count] = slot_by_row[item], np.float32(1.0)
                coefficient[count, 0], coefficient[count, 1] = np.float32(1.0), amount
                count += 1
            amount *= np.float32(recency_decay)
        source_start[i + 1] = count
    return sources


@kernel
def _retrieve(
    start: np.ndarray, history: np.ndarray, slot_by_row: np.ndarray, depth: int, recency_decay: float,
    lists: SourceLists, candidates: CandidateFilter, result: np.ndarray,
) -> None:  # fmt: skip
    sources = _find_sources(start, history, slot_by_row, depth, recency_decay)
    no_event_counts, pool_size = np.empty((0, 1), np.int32), lists[0].shape[0]
    retrieve_from_sources(sources, lists, candidates, no_event_counts, pool_size, (0, 1), result)


@kernel
def _write_scores(
    start: np.ndarray, history: np.ndarray, slot_by_row: np.ndarray, depth: int, recency_decay: float,
    lists: SourceLists, list_start: np.ndarray, row: np.ndarray, entry_index: np.ndarray, out: np.ndarray, column: int,
) -> None:  # fmt: skip
    sources = _find_sources(start, history, slot_by_row, depth, recency_decay)
    write_source_scores(sources, lists, list_start, row, entry_index, out, (column, column + 1))


class EaseRetriever(Retriever):
    """Find items by the weights of the items in the history.

    Pairs are counted with each action. The weights are fit again after a number of actions, so that every run fits them
    at the same place of the log. Replicas get the weights and no pairs.
    """

    channel = Channel.ease
    names: tuple[str, ...] = ("ease_all", "ease_recent")
    scales: tuple[float, ...] = (0.0, 0.0)

    def __init__(
        self, items: ItemTable, settings: EaseSettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = settings or EaseSettings()
        self._items, self._workspace = items, workspace or Workspace()
        self._is_changed = False
        self._state = self._initial_state()
        self._slot_by_row = np.full(0, -1, np.int32)  # follows from the state

    def _initial_state(self) -> State:
        n, width = self.settings.items, self.settings.neighbors
        return {
            "item": np.full(n, -1, np.int32),
            "pairs": np.zeros((n, n), np.float32),
            "actions": np.zeros(2, np.int64),  # so far, and at the latest fit
            "fit_ts": np.full(1, NO_TIME),  # ms, time of the latest fit
            "neighbor": np.full((n, width), -1, np.int32),
            "weight": np.zeros((n, width), np.float32),
        }

    def _slots(self) -> np.ndarray:
        """Slots by item row, (≥ items,) int32, -1 = none."""
        if self._slot_by_row.size < len(self._items):
            item = self._state["item"]
            slots = np.flatnonzero(item >= 0).astype(np.int32)
            self._slot_by_row = np.full(2 * max(len(self._items), int(item.max()) + 1, 512), -1, np.int32)
            self._slot_by_row[item[slots]] = slots
        return self._slot_by_row

    def learn(self, actions: Actions) -> None:
        """Count the pairs of each action, and fit the weights if that is due."""
        if not len(actions):
            return
        state, users, setting = self._state, actions.users, self.settings
        counts = as_tuple(PairCounts(state["item"], state["pairs"]))
        count_pairs(actions.row, users.queries.history_start, users.history, self._slots(), counts)
        state["actions"][0] += len(actions)
        n_actions, n_fitted = state["actions"].tolist()
        interval = min(max(n_actions * setting.interval_ratio, setting.min_interval), setting.max_interval)
        if n_actions - n_fitted >= interval:
            state["actions"][1] = n_actions
            self._decay(int(actions.ts.max()))
            self._evict()
            self._fit()

    def relearn(self, changes: HistoryChanges) -> None:
        """Replace the pairs of histories that have changed; the next fit uses them."""
        state, users, queries = self._state, changes.users, changes.users.queries
        entries = ChangedEntries(
            queries.history_start, users.history, queries.history_ts, changes.is_changed, changes.is_merge
        )
        counts = as_tuple(PairCounts(state["item"], state["pairs"]))
        fit_ts, half_life_ms = int(state["fit_ts"][0]), 1000.0 * self.settings.half_life
        recount_pairs(as_tuple(entries), self._slots(), counts, fit_ts, half_life_ms)

    def _decay(self, ts: int) -> None:
        """Let the pairs decay from the latest fit to a time, ms."""
        fit_ts = self._state["fit_ts"]
        if fit_ts[0] > NO_TIME:
            age = max(0, ts - int(fit_ts[0])) / 1000.0
            self._state["pairs"] *= np.float32(2.0 ** (-age / self.settings.half_life))
        fit_ts[0] = max(ts, int(fit_ts[0]))

    def _evict(self) -> None:
        """Free the rarest items if there is no space for new ones.

        Lossy counting, Manku and Motwani, VLDB 2002.
        """
        item, pairs, n = self._state["item"], self._state["pairs"], self.settings.items
        if item[-1] < 0:
            return
        kept = np.argsort(-np.diag(pairs), kind="stable")[: max(1, int(n * (1 - self.settings.evicted_ratio)))]
        kept.sort()
        kept_item, kept_pairs = item[kept], pairs[np.ix_(kept, kept)]
        item[:], pairs[:] = -1, 0.0
        item[: kept.size], pairs[: kept.size, : kept.size] = kept_item, kept_pairs
        self._slot_by_row = np.full(0, -1, np.int32)

    def _fit(self) -> None:
        state = self._state
        n = int(np.count_nonzero(state["item"] >= 0))
        weights = fit_weights(state["pairs"][:n, :n], self.settings.ridge)
        _select_neighbors(weights, state["item"], as_tuple(SourceLists(state["neighbor"], state["weight"])))
        self._is_changed = True

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        result = np.empty((len(users), k), np.int32)
        candidates = make_filter(self._items, self._workspace, len(users), eligible, exclusions)
        _retrieve(*self._scan_arguments(users), candidates, result)
        return result

    def write_scores(self, users: UserQueries, lists: ItemLists, out: np.ndarray, column: int) -> None:
        entry_index = self._workspace.reserve(len(self._items))
        _write_scores(*self._scan_arguments(users), lists.start, lists.row, entry_index, out, column)

    def _scan_arguments(self, users: UserQueries) -> tuple[Any, ...]:
        setting, lists = self.settings, as_tuple(SourceLists(self._state["neighbor"], self._state["weight"]))
        start, history = users.queries.history_start, users.history
        return start, history, self._slots(), setting.depth, setting.recency_decay, lists

    def state(self) -> State:
        return self._state

    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`; without one, start untrained."""
        self._state = {name: array.copy() for name, array in state.items()} or self._initial_state()
        self._slot_by_row = np.full(0, -1, np.int32)

    def changes(self) -> State:
        """Return slots and weights after a fit, without the pairs: a replica does not train."""
        is_changed, self._is_changed = self._is_changed, False
        return {name: self._state[name].copy() for name in ("item", "neighbor", "weight")} if is_changed else {}

    def apply(self, changes: State) -> None:
        if changes:
            self._state = self._state | {name: array.copy() for name, array in changes.items()}
            self._slot_by_row = np.full(0, -1, np.int32)
