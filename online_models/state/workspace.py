"""Scratch arrays by item row that the kernels of one model share."""

import numpy as np

from stream.jit import kernel

MASKED = -2  # entry of an item that must not become a candidate


class Workspace:
    """Arrays that grow with the item table; kernels restore them, so they are no state."""

    def __init__(self) -> None:
        self.entry_index = np.full(1024, -1, np.int32)  # by item row: its entry in the current list, -1 = none
        self.all_eligible = np.ones(1024, np.uint8)  # by item row

    def reserve(self, rows: int) -> np.ndarray:
        """Return `entry_index` with space for so many item rows."""
        if rows > self.entry_index.size:
            self.entry_index = np.full(2 * rows, -1, np.int32)
            self.all_eligible = np.ones(2 * rows, np.uint8)
        return self.entry_index


@kernel
def mask(rows: np.ndarray, entry_index: np.ndarray) -> None:
    """Keep items from becoming candidates until `unmask`; items that have an entry keep it."""
    for i in range(rows.size):
        if rows[i] >= 0 and entry_index[rows[i]] == -1:
            entry_index[rows[i]] = MASKED


@kernel
def unmask(rows: np.ndarray, entry_index: np.ndarray) -> None:
    for i in range(rows.size):
        if rows[i] >= 0 and entry_index[rows[i]] == MASKED:
            entry_index[rows[i]] = -1
