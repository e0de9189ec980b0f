"""Changes of histories after the fact: actions that users have taken back."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.state.contribution_caps import COUNT_KINDS, user_weights
from online_models.state.item_table import HORIZONS, NO_TIME, ItemCounters, ItemTable, UserQueries
from stream.jit import kernel
from stream.records.batches import ExampleBatch, Kind
from stream.records.signs import is_disliked, plain_types

_NEGLIGIBLE = 1e-4  # share of a subtracted amount below which a rest counts as rounding error


@dataclass(frozen=True, slots=True)
class HistoryChanges:
    """Histories around n changes, with the entries that go, or that come from another user."""

    users: UserQueries
    is_changed: np.ndarray  # (h,) bool, entries of the histories
    item_row: np.ndarray  # int32, items whose counts have changed, -1 = unknown
    is_merge: np.ndarray  # (n,) bool, the changed entries come; False: they go


class RetractedActions(NamedTuple):
    """Actions that were taken back; those that the history has dropped have no time."""

    row: np.ndarray  # (n,) int32, -1 = unknown item
    type: np.ndarray  # (n,) uint8
    kind: np.ndarray  # (n,) int8, kind of count, -1 = none
    value: np.ndarray  # (n,) float32
    ts: np.ndarray  # (n,) int64, ms, NO_TIME = unknown
    weight: np.ndarray  # (n,) float32, in decayed counts


def find_retractions(batch: ExampleBatch, items: ItemTable) -> tuple[RetractedActions, HistoryChanges] | None:
    """Find the actions that a batch takes back, and the histories around them; None without any."""
    rows = np.flatnonzero(batch.kind == Kind.retracted)
    if not rows.size:
        return None
    part = batch.take(rows)
    queries, position = part.queries, part.lists.position[part.lists.start[:-1]]
    item = part.lists.item[part.lists.start[:-1]].copy()
    entries = queries.history_start[:-1] + np.maximum(position, 0)
    is_known = (position >= 0) & (entries < queries.history_start[1:])
    is_changed = np.zeros(queries.history_item.size, np.bool_)
    is_changed[entries[is_known]] = True
    types, ts, is_negative = part.type.copy(), np.full(rows.size, NO_TIME), np.zeros(rows.size, np.bool_)
    known = entries[is_known]
    item[is_known], types[is_known] = queries.history_item[known], plain_types(queries.history_type[known])
    ts[is_known], is_negative[is_known] = queries.history_ts[known], is_disliked(queries.history_type[known])
    item_row = items.lookup(item)
    kind = np.where(is_negative, np.int8(-1), COUNT_KINDS[types])
    actions = RetractedActions(item_row, types, kind, part.value, ts, user_weights(part))
    return actions, HistoryChanges(items.resolve_queries(queries), is_changed, item_row, np.zeros(rows.size, np.bool_))


def find_merges(batch: ExampleBatch, items: ItemTable) -> HistoryChanges | None:
    """Find the anonymous users whose actions join an account in a batch; None without any."""
    rows = np.flatnonzero(batch.kind == Kind.merged)
    if not rows.size:
        return None
    part = batch.take(rows)
    queries, lists = part.queries, part.lists
    entries = np.repeat(queries.history_start[:-1], np.diff(lists.start)) + lists.position
    is_changed = np.zeros(queries.history_item.size, np.bool_)
    is_changed[entries[lists.position >= 0]] = True
    no_items, is_merge = np.zeros(0, np.int32), np.ones(rows.size, np.bool_)
    return HistoryChanges(items.resolve_queries(queries), is_changed, no_items, is_merge)


def uncount(items: ItemTable, actions: RetractedActions) -> None:
    """Take actions out of the counts of their items.

    The value of a rating is known only if its retraction names it.
    """
    _uncount(actions, items.counter_columns)
    items.counters.mark_changed(actions.row)


@kernel
def _uncount(actions: RetractedActions, counters: ItemCounters) -> None:
    rows, types, kinds, values, times, weights = actions
    counts, stamp, _, _, total_counts, rating = counters
    for i in range(rows.size):
        row, kind = rows[i], kinds[i]
        if row < 0 or total_counts[row, types[i]] == 0:
            continue
        total_counts[row, types[i]] -= 1
        if types[i] == 8 and np.isfinite(values[i]) and rating[row, 1] > 0:
            rating[row, 0] -= values[i]
            rating[row, 1] -= 1
        if kind < 0 or times[i] == NO_TIME:
            continue
        age = max(0.0, (stamp[row] - times[i]) / 1000.0)
        for h in range(HORIZONS.size):
            amount = np.float32(2.0 ** (-age / HORIZONS[h])) * weights[i]
            rest = counts[row, kind, h] - amount
            counts[row, kind, h] = rest if rest > _NEGLIGIBLE * amount else np.float32(0.0)
