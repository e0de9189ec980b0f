"""Table of wide rows whose changes list changed cells instead of whole rows."""

from collections.abc import Mapping

import numpy as np

from online_models.state.tables import Column, State, Table

WORD_CELLS = 64  # cells per word of the change mask
ALL_CELLS = np.uint64(0xFFFFFFFFFFFFFFFF)


class CellTable(Table):
    """Table of narrow columns and wide columns of one width.

    The column `changed` has a bit per cell, which the kernel that writes the cell sets.

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
        """Return changed rows with their narrow columns, and changed cells with their flat index."""
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
        """Write another table's changes, after which both hold the same bits."""
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
