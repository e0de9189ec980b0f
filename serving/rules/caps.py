"""Groups of items with the same value of a field, of which a slate takes a limited number."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from serving.filters.columns import ItemColumns
from serving.replica.replica import Replica

VARIANTS = "group_id"  # field of items that are variants of one article
_FIELDS = {"category": "categories"}  # other names of fields


class Groups(NamedTuple):
    """Groups of n items, and the most items of each group in a slate."""

    of_items: np.ndarray  # (n, w) int32, -1 = none
    room: np.ndarray  # (g,) int64


def find_groups(columns: ItemColumns, caps: Mapping[str, int], rows: np.ndarray) -> Groups:
    """Groups of items by all capped fields; an item without a field is in no group of it."""
    parts, room, n_groups = [np.zeros((rows.size, 0), np.int32)], [np.zeros(0, np.int64)], 0
    for name, cap in caps.items():
        keys = _read_keys(columns, _FIELDS.get(name, name), rows)
        distinct, inverse = np.unique(keys, return_inverse=True)
        parts.append(np.where(keys == 0, -1, inverse.reshape(keys.shape) + n_groups).astype(np.int32))
        room.append(np.full(distinct.size, cap, np.int64))
        n_groups += distinct.size
    return Groups(np.ascontiguousarray(np.concatenate(parts, axis=1)), np.concatenate(room))


def is_variant(replica: Replica, rows: np.ndarray, excluded_keys: np.ndarray) -> np.ndarray:
    """Return True for each item, (n,) bool, in the group of an excluded item."""
    excluded_rows = replica.model.items.lookup(excluded_keys)
    excluded = _read_keys(replica.columns, VARIANTS, excluded_rows)
    groups = _read_keys(replica.columns, VARIANTS, rows)
    found: np.ndarray = ((groups != 0) & np.isin(groups, excluded)).any(axis=1)
    return found


def _read_keys(columns: ItemColumns, name: str, rows: np.ndarray) -> np.ndarray:
    """Keys of the values of a field, (n, values) uint64, 0 = none; row -1 has none."""
    column = columns.get(name)
    arrays = [array[rows] for array in column.keys]
    if column.numbers is not None:
        numbers = column.numbers[rows] + 0.0  # -0.0 equals 0.0
        arrays.append(np.where(np.isnan(numbers), 0, numbers.view(np.uint64) + 1))
    keys = np.array(arrays, np.uint64).reshape(len(arrays), rows.size).T
    return np.where(rows[:, None] < 0, np.uint64(0), keys)
