"""Table of learned state: rows by key, columns that grow, and a mask of changed rows."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from stream.ids import KeyIndex
from stream.jit import kernel

State = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class Column:
    """Type of a column: a row holds a scalar (empty `shape`) or an array; new rows hold `fill`."""

    dtype: str
    shape: tuple[int, ...] = ()
    fill: float = 0


@kernel
def _mark_rows(changed_mask: np.ndarray, rows: np.ndarray) -> None:
    for i in range(rows.size):
        if 0 <= rows[i] < changed_mask.size:
            changed_mask[rows[i]] = True


class Table:
    """Map keys to rows of columns.

    Columns are plain arrays with spare rows at the end, so that kernels write them in place. A freed row holds key 0
    and the fill values until a new key reuses it, lowest row first.

    >>> table = Table({"clicks": Column("float32")})
    >>> rows = table.add_keys(np.array([7, 9], np.uint64))
    >>> table["clicks"][rows] += 1
    >>> table.mark_changed(rows)
    >>> sorted(table.changes())
    ['clicks', 'keys', 'rows']
    """

    def __init__(self, columns: Mapping[str, Column], capacity: int = 1024) -> None:
        if "keys" in columns or "rows" in columns:
            raise ValueError(f"columns must not be named 'keys' or 'rows', got {sorted(columns)}")
        self.columns = dict(columns)
        self.clear(capacity)

    def clear(self, capacity: int = 1024) -> None:
        """Drop all rows and allocate space for `capacity` new ones."""
        self._index = KeyIndex(capacity)
        self._n_rows = 0
        self._arrays: State = {"keys": np.zeros(capacity, np.uint64)}
        for name, column in self.columns.items():
            self._arrays[name] = np.full((capacity, *column.shape), column.fill, column.dtype)
        self._changed_mask = np.zeros(capacity, np.bool_)
        self._free_rows = np.zeros(0, np.int32)  # to be reused, ascending

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the whole column with its spare rows; rows from `len(table)` on are unused."""
        return self._arrays[name]

    @property
    def keys(self) -> np.ndarray:
        """Keys by row, (len(table),) uint64."""
        return self._arrays["keys"][: self._n_rows]

    @property
    def free_rows(self) -> np.ndarray:
        """Freed rows that the next new keys get, ascending, (n,) int32."""
        return self._free_rows

    @property
    def slots(self) -> tuple[np.ndarray, np.ndarray]:
        """Key index for `stream.ids.lookup_row` inside a kernel."""
        return self._index.slots

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Return the rows of keys, (n,) int32; -1 where a key is unknown."""
        return self._index.lookup(keys)

    def add_keys(self, keys: np.ndarray) -> np.ndarray:
        """Return rows of keys, (n,) int32; unknown keys get new rows in order of occurrence."""
        rows, new_keys = self._index.lookup_or_insert(keys, self._n_rows)
        if new_keys.size:
            first, new_rows = self._n_rows, self._allocate_rows(new_keys.size)
            self._arrays["keys"][new_rows] = new_keys
            self._changed_mask[new_rows] = True
            if new_rows[0] != first:
                self._index.insert(new_keys, new_rows)
                rows = self._index.lookup(keys)
        return rows

    def free(self, rows: np.ndarray) -> None:
        """Remove the keys of distinct rows; the next new keys reuse the rows."""
        self._index.remove(self._arrays["keys"][rows])
        for name, array in self._arrays.items():
            array[rows] = self.columns[name].fill if name in self.columns else 0
        self._changed_mask[rows] = True
        self._free_rows = np.union1d(self._free_rows, rows.astype(np.int32))

    def mark_changed(self, rows: np.ndarray) -> None:
        """Mark rows as changed; rows that do not exist, such as -1, are ignored."""
        _mark_rows(self._changed_mask, np.ascontiguousarray(rows).reshape(-1))

    def changes(self) -> State:
        """Return the rows changed since the last call, with their keys and all their columns."""
        rows = np.flatnonzero(self._changed_mask[: self._n_rows]).astype(np.int32)
        self._changed_mask[rows] = False
        return {"rows": rows} | {name: array[rows] for name, array in self._arrays.items()}

    def apply(self, changes: State) -> None:
        """Write another table's changes, after which both hold the same bits.

        A column that `changes` does not have stays as it is, as do entries that its columns of an older release lack.
        """
        rows = changes["rows"]
        if rows.size == 0:
            return
        self._grow(int(rows.max()) + 1)
        self._n_rows = max(self._n_rows, int(rows.max()) + 1)
        is_moved = self._arrays["keys"][rows] != changes["keys"]
        is_assigned = is_moved & (changes["keys"] != 0)
        # Remove all keys before inserting any: a key may have moved to another row since the last changes.
        self._index.remove(self._arrays["keys"][rows[is_moved]])
        self._index.insert(changes["keys"][is_assigned], rows[is_assigned])
        for name in self._arrays.keys() & changes.keys():
            _fit(self._arrays[name], changes[name])[rows] = changes[name]
        if self._free_rows.size or not changes["keys"].all():
            self._free_rows = np.flatnonzero(self.keys == 0).astype(np.int32)

    def state(self) -> State:
        """Return all rows as views; copy them before further learning."""
        return {name: array[: self._n_rows] for name, array in self._arrays.items()}

    def restore(self, state: State) -> None:
        """Replace all rows by a copy of `state`; a column that it does not have gets its fill value."""
        n_rows = int(state["keys"].size)
        self.clear(max(1024, n_rows))
        self._n_rows = n_rows
        for name in self._arrays.keys() & state.keys():
            _fit(self._arrays[name], state[name])[:n_rows] = state[name]
        used_rows = np.flatnonzero(state["keys"]).astype(np.int32)
        self._index.insert(state["keys"][used_rows], used_rows)
        self._free_rows = np.flatnonzero(state["keys"] == 0).astype(np.int32)

    def truncate(self, n_rows: int) -> None:
        """Remove the rows from `n_rows` on, as if they had never been added."""
        rows = np.arange(n_rows, self._n_rows)
        self._index.remove(self._arrays["keys"][rows])
        for name, array in self._arrays.items():
            array[rows] = self.columns[name].fill if name in self.columns else 0
        self._changed_mask[rows] = False
        self._free_rows = self._free_rows[self._free_rows < n_rows]
        self._n_rows = min(self._n_rows, n_rows)

    def _allocate_rows(self, count: int) -> np.ndarray:
        """Return rows for new keys, (count,) int32: freed rows first, then new rows at the end."""
        free_rows, self._free_rows = self._free_rows[:count], self._free_rows[count:]
        first, self._n_rows = self._n_rows, self._n_rows + count - free_rows.size
        self._grow(self._n_rows)
        return np.concatenate([free_rows, np.arange(first, self._n_rows, dtype=np.int32)])

    def _grow(self, min_capacity: int) -> None:
        capacity = self._changed_mask.size
        if min_capacity <= capacity:
            return
        capacity = max(min_capacity, 2 * capacity)
        for name, array in self._arrays.items():
            fill = self.columns[name].fill if name in self.columns else 0
            new_array = np.full((capacity, *array.shape[1:]), fill, array.dtype)
            new_array[: array.shape[0]] = array
            self._arrays[name] = new_array
        changed_mask = np.zeros(capacity, np.bool_)
        changed_mask[: self._changed_mask.size] = self._changed_mask
        self._changed_mask = changed_mask


def prefix_states(parts: Mapping[str, State]) -> State:
    """Merge the states of parts into one, each name prefixed by its part.

    >>> sorted(prefix_states({"a": {"x": np.zeros(1)}, "b": {"x": np.ones(1)}}))
    ['a.x', 'b.x']
    """
    return {f"{part}.{name}": array for part, state in parts.items() for name, array in state.items()}


def substate(state: State, part: str) -> State:
    """Return one part of a `prefix_states` result, under its own names."""
    return {name[len(part) + 1 :]: array for name, array in state.items() if name.startswith(part + ".")}


def _fit(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the part of a column that values fill; rows of an older release may be shorter."""
    return column[:, : values.shape[1]] if column.ndim > 1 and values.ndim == column.ndim else column
