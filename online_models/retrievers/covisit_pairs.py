"""Add pairs to the covisitation table, and relearn the pairs of histories that have changed."""

from typing import NamedTuple

import numpy as np

from stream.jit import kernel

_ALL, _OTHERS, _CHANGED = range(3)  # parts of a history: all entries, those that stay, those that go or come
_NEGLIGIBLE = 1e-4  # share of a subtracted amount below which a rest counts as rounding error


class CovisitTable(NamedTuple):
    """Columns of the covisitation table, one row per item of a history or an action."""

    base: np.ndarray  # (rows,) int64, ms: `total` and `weight` are in units of this time, so that they decay untouched
    total: np.ndarray  # (rows,) float32, sum of all weights ever added
    neighbor: np.ndarray  # (rows, neighbors) int32 item rows, -1 = free
    weight: np.ndarray  # (rows, neighbors) float32
    changed: np.ndarray  # (rows, words) uint64, bit mask of changed cells


class PairWeights(NamedTuple):
    """Settings of the learning kernels."""

    window: int
    backward: float
    decay: float
    half_life_ms: float


class ChangedHistories(NamedTuple):
    """Histories with the entries that go or come; `table_row` is a row of `CovisitTable`."""

    start: np.ndarray  # (n + 1,) int64
    item: np.ndarray  # (h,) int32 item rows, -1 = unknown or disliked
    table_row: np.ndarray  # (h,) int32
    ts: np.ndarray  # (h,) int64, ms
    is_changed: np.ndarray  # (h,) bool
    is_merge: np.ndarray  # (n,) bool, the changed entries come from another user; False: they go


@kernel
def add_pair(
    row: int, item: int, amount: np.float32, neighbor: np.ndarray, weight: np.ndarray, changed: np.ndarray
) -> None:
    """Add to the weight of a pair; a new neighbor replaces the weakest one."""
    cell, weakest = -1, 0
    for j in range(neighbor.shape[1]):
        if neighbor[row, j] == item:
            cell = j
            break
        if weight[row, j] < weight[row, weakest]:
            weakest = j
    if cell < 0:
        cell = weakest
        neighbor[row, cell] = item
        weight[row, cell] = np.float32(0.0)
    weight[row, cell] += amount
    _mark(row, cell, changed)


@kernel
def relearn_pairs(histories: ChangedHistories, weights: PairWeights, table: CovisitTable) -> None:
    """Replace the pairs of the histories as they were by those of the histories as they are.

    Actions that are removed: all pairs before, then those of the others. A merge: the pairs of the two histories
    before, then those of all.
    """
    start, is_changed, is_merge = histories.start, histories.is_changed, histories.is_merge
    for i in range(start.size - 1):
        first, last = -1, -1
        for h in range(start[i], start[i + 1]):
            if is_changed[h]:
                first, last = (h if first < 0 else first), h
        if first < 0:
            continue
        span = start[i], first, min(start[i + 1], last + weights.window + 2)  # behind it, no pairs change
        if is_merge[i]:
            _change_pairs(span, _OTHERS, -1.0, histories, weights, table)
            _change_pairs(span, _CHANGED, -1.0, histories, weights, table)
            _change_pairs(span, _ALL, 1.0, histories, weights, table)
        else:
            _change_pairs(span, _ALL, -1.0, histories, weights, table)
            _change_pairs(span, _OTHERS, 1.0, histories, weights, table)


@kernel
def _change_pairs(
    span: tuple[int, int, int], part: int, sign: float, histories: ChangedHistories, weights: PairWeights,
    table: CovisitTable,
) -> None:  # fmt: skip
    """Add, or subtract with sign -1, the pairs of entries with those before them in a part.

    `span`: start of the history, first entry, and end of the entries.
    """
    begin, first, end = span
    for at in range(first, end):
        if _is_in(part, histories.is_changed[at]) and histories.item[at] >= 0:
            _change_pairs_with(begin, at, part, sign, histories, weights, table)


@kernel
def _is_in(part: int, is_changed: bool) -> bool:
    return part == _ALL or is_changed == (part == _CHANGED)


@kernel
def _change_pairs_with(
    begin: int, at: int, part: int, sign: float, histories: ChangedHistories, weights: PairWeights,
    table: CovisitTable,
) -> None:  # fmt: skip
    _, item, table_row, ts, is_changed, _ = histories
    window, backward, decay, half_life_ms = weights
    base, total, neighbor, weight, changed = table
    amount, n_before, h = 1.0, 0, at - 1
    while h >= begin and n_before < window:
        if _is_in(part, is_changed[h]):
            if item[h] >= 0 and item[h] != item[at]:
                earlier, later = table_row[h], table_row[at]
                forward = np.float32(amount * 2.0 ** ((ts[at] - base[earlier]) / half_life_ms))
                back = np.float32(backward * amount * 2.0 ** ((ts[at] - base[later]) / half_life_ms))
                if sign > 0:
                    add_pair(earlier, item[at], forward, neighbor, weight, changed)
                    add_pair(later, item[h], back, neighbor, weight, changed)
                else:
                    _subtract_pair(earlier, item[at], forward, neighbor, weight, changed)
                    _subtract_pair(later, item[h], back, neighbor, weight, changed)
                total[earlier] = max(np.float32(0.0), total[earlier] + np.float32(sign) * forward)
                total[later] = max(np.float32(0.0), total[later] + np.float32(sign) * back)
            amount *= decay
            n_before += 1
        h -= 1


@kernel
def _subtract_pair(
    row: int, item: int, amount: np.float32, neighbor: np.ndarray, weight: np.ndarray, changed: np.ndarray
) -> None:
    """Subtract from the weight of a pair, and free its cell if nothing remains."""
    width = neighbor.shape[1]
    cell, end = -1, width
    for j in range(width):
        if neighbor[row, j] < 0:
            end = j
            break
        if neighbor[row, j] == item:
            cell = j
    if cell < 0:  # a stronger neighbor has replaced it
        return
    weight[row, cell] -= amount
    if weight[row, cell] <= _NEGLIGIBLE * amount:
        neighbor[row, cell], weight[row, cell] = neighbor[row, end - 1], weight[row, end - 1]
        neighbor[row, end - 1], weight[row, end - 1] = -1, np.float32(0.0)
        _mark(row, end - 1, changed)
    _mark(row, cell, changed)


@kernel
def _mark(row: int, cell: int, changed: np.ndarray) -> None:
    changed[row, cell >> 6] |= np.uint64(1) << np.uint64(cell & 63)
