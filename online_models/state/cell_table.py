"""A table of wide rows of which an event changes a few cells: its changes carry the cells, not the rows."""

from collections.abc import Mapping

import numpy as np

from online_models.state.tables import Column, State, Table

WORD_CELLS = 64  # cells per word of the mask
ALL_CELLS = np.uint64(0xFFFFFFFFFFFFFFFF)


class CellTable(Table):
    """Narrow columns, wide columns of one width, and `changed`: a bit for each cell that a kernel has written.

    >>> table = CellTable({"total": Column("float32")}, {"weight": Column("float32")}, width=64)
    >>> rows = table.add_keys(np.array([7], np.uint64))
    >>> table["weight"][0, 5], table["changed"][0, 0] = 1.5, 1 << 5
    >>> changes = table.changes()
    >>> changes["cells"].tolist(), changes["weight"].tolist()
    ([5], [1.5])
    """

    def __init__(
        self, narrow: Mapping[str, Column], wide: Mapping[str, Column], width: int, capacity: int = 1024
    ) -> None:
        if width < WORD_CELLS or width % WORD_CELLS:
            raise ValueError(f"width must be a positive multiple of {WORD_CELLS}, got {width}")
        self.narrow, self.wide, self.width = dict(narrow), dict(wide), width
        wide_columns = {name: Column(column.dtype, (width,), column.fill) for name, column in wide.items()}
        super().__init__({**narrow, **wide_columns, "changed": Column("uint64", (width // WORD_CELLS,))}, capacity)

    def changes(self) -> State:
        """Changed rows with their narrow columns, and the flat places of changed cells with theirs."""
        self.mark_changed(np.flatnonzero(self["changed"][: len(self)].any(axis=1)))
        rows = np.flatnonzero(self._changed_mask[: self._n_rows]).astype(np.int32)
        self._changed_mask[rows] = False
        bits = np.unpackbits(self["changed"][rows].view(np.uint8), axis=1, bitorder="little")
        at, cell = np.nonzero(bits)
        self["changed"][rows] = 0
        cells = rows[at].astype(np.int64) * self.width + cell
        narrow = {name: self._arrays[name][rows] for name in ("keys", *self.narrow)}
        return {"rows": rows, "cells": cells} | narrow | {name: self[name].reshape(-1)[cells] for name in self.wide}

    def apply(self, changes: State) -> None:
        """Write another table's changes here; both then hold the same bits."""
        rows = changes["rows"]
        if rows.size == 0:
            return
        self._grow(int(rows.max()) + 1)
        self._n_rows = max(self._n_rows, int(rows.max()) + 1)
        is_new = self._arrays["keys"][rows] != changes["keys"]
        self._index.insert(changes["keys"][is_new], rows[is_new])
        for name in ("keys", *self.narrow):
            self._arrays[name][rows] = changes[name]
        for name in self.wide:
            self._arrays[name].reshape(-1)[changes["cells"]] = changes[name]

    def state(self) -> State:
        return {name: array for name, array in super().state().items() if name != "changed"}

    def restore(self, state: State) -> None:
        n_rows = int(state["keys"].size)
        self.__init__(self.narrow, self.wide, self.width, max(1024, n_rows))  # type: ignore[misc]
        self._n_rows = n_rows
        for name in self._arrays.keys() & state.keys():
            self._arrays[name][:n_rows] = state[name]
        self._index.insert(state["keys"], np.arange(n_rows, dtype=np.int32))
