"""Add pairs to the covisitation table, and relearn the pairs of histories that have changed."""

from typing import NamedTuple

import numpy as np

from stream.jit import kernel

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
    """Histories with the entries that go; `table_row` is a row of `CovisitTable`."""

    start: np.ndarray  # (n + 1,) int64
    item: np.ndarray  # (h,) int32 item rows, -1 = unknown or disliked
    table_row: np.ndarray  # (h,) int32
    ts: np.ndarray  # (h,) int64, ms
    is_removed: np.ndarray  # (h,) bool


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
    """Subtract the pairs of the histories as they were, and add those of what remains."""
    start, _, _, _, is_removed = histories
    for i in range(start.size - 1):
        first, last = -1, -1
        for h in range(start[i], start[i + 1]):
            if is_removed[h]:
                first, last = (h if first < 0 else first), h
        if first < 0:
            continue
        end = min(start[i + 1], last + weights.window + 2)  # behind the last entry whose pairs change
        for h in range(first, end):
            _change_pairs(start[i], h, -1.0, histories, weights, table)
        for h in range(first, end):
            if not is_removed[h]:
                _change_pairs(start[i], h, 1.0, histories, weights, table)


@kernel
def _change_pairs(
    begin: int, at: int, sign: float, histories: ChangedHistories, weights: PairWeights, table: CovisitTable
) -> None:
    """Add, or subtract with sign -1, the pairs of an entry with those before it from `begin` on.

    Pairs are added without the entries that go, and subtracted with them.
    """
    _, item, table_row, ts, is_removed = histories
    window, backward, decay, half_life_ms = weights
    base, total, neighbor, weight, changed = table
    if item[at] < 0:
        return
    amount, n_before, h = 1.0, 0, at - 1
    while h >= begin and n_before < window:
        if sign < 0 or not is_removed[h]:
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
