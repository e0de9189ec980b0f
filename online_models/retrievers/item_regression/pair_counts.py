"""Counts of pairs of items in one history, and what changed histories take away from them."""

from typing import NamedTuple

import numpy as np

from stream.jit import kernel


class PairCounts(NamedTuple):
    """Counts of pairs of items in one history, by slot."""

    item: np.ndarray  # (items,) int32 item rows, -1 = free; free slots are the last
    pairs: np.ndarray  # (items, items) float32, symmetric; the diagonal has the users of each item


@kernel
def count_pairs(
    row: np.ndarray, start: np.ndarray, history: np.ndarray, slot_by_row: np.ndarray, counts: PairCounts
) -> None:
    """Count the pairs of each action's item with the items of the history, once per history."""
    item, pairs = counts
    n_used = 0
    while n_used < item.size and item[n_used] >= 0:
        n_used += 1
    unit, latest_query = np.float32(1.0), np.full(item.size, -1, np.int64)
    for i in range(row.size):
        if row[i] < 0:
            continue
        if slot_by_row[row[i]] < 0 and n_used < item.size:
            item[n_used], slot_by_row[row[i]] = row[i], n_used
            n_used += 1
        slot, is_known = slot_by_row[row[i]], False
        for h in range(start[i], start[i + 1]):
            is_known |= history[h] == row[i]
        if slot < 0 or is_known:
            continue
        pairs[slot, slot] += unit
        for h in range(start[i], start[i + 1]):
            other = slot_by_row[history[h]] if history[h] >= 0 else np.int32(-1)
            if other >= 0 and latest_query[other] != i:
                latest_query[other] = i
                pairs[slot, other] += unit
                pairs[other, slot] += unit


class ChangedEntries(NamedTuple):
    """Histories with the entries that go or come."""

    start: np.ndarray  # (n + 1,) int64
    item: np.ndarray  # (h,) int32 item rows, -1 = unknown or disliked
    ts: np.ndarray  # (h,) int64, ms
    is_changed: np.ndarray  # (h,) bool
    is_merge: np.ndarray  # (n,) bool, the changed entries come from another user; False: they go


@kernel
def _list_items(
    begin: int, end: int, entries: ChangedEntries, slot_by_row: np.ndarray
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of different items of one history, with their slots, times and parts.

    A time, ms, is that of the item's first entry. The last array, (items, 2), is True for an item among the entries
    that stay (0), or among those that change (1).
    """
    _, item, ts, is_changed, _ = entries
    slots, first_ts = np.empty(end - begin, np.int32), np.empty(end - begin, np.int64)
    is_in, n = np.zeros((end - begin, 2), np.bool_), 0
    for h in range(begin, end):
        slot, at = slot_by_row[item[h]] if item[h] >= 0 else np.int32(-1), 0
        if slot < 0:
            continue
        while at < n and slots[at] != slot:
            at += 1
        if at == n:
            slots[n], first_ts[n] = slot, ts[h]
            n += 1
        is_in[at, np.int64(is_changed[h])] = True
    return n, slots, first_ts, is_in


@kernel
def recount_pairs(
    entries: ChangedEntries, slot_by_row: np.ndarray, counts: PairCounts, fit_ts: int, half_life_ms: float
) -> None:
    """Replace the pairs of the histories as they were by those of the histories as they are.

    Pairs count as far as they have decayed. A merge: the pairs of two histories before, then those of all items.
    """
    start, is_merge = entries[0], entries[4]
    _, pairs = counts
    for i in range(start.size - 1):
        n, slots, first_ts, is_in = _list_items(start[i], start[i + 1], entries, slot_by_row)
        for p in range(n):
            amount = np.float32(2.0 ** (min(0, first_ts[p] - fit_ts) / half_life_ms))
            for q in range(p + 1):
                n_before, n_after = np.int64(1), np.int64(is_in[p, 0] and is_in[q, 0])
                if is_merge[i]:
                    n_before, n_after = n_after + np.int64(is_in[p, 1] and is_in[q, 1]), np.int64(1)
                rest = max(np.float32(0.0), pairs[slots[p], slots[q]] + np.float32(n_after - n_before) * amount)
                pairs[slots[p], slots[q]] = pairs[slots[q], slots[p]] = rest
