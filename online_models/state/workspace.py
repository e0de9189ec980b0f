"""Scratch arrays that the kernels of one model share."""

import numpy as np


class Workspace:
    """Space that kernels share: `place[row]` is an item's entry in the list in hand, -1 elsewhere.

    Every kernel leaves it as it found it, full of -1, so it is no state.
    """

    def __init__(self) -> None:
        self.entry_index = np.full(1024, -1, np.int32)

    def reserve(self, rows: int) -> np.ndarray:
        if rows > self.entry_index.size:
            self.entry_index = np.full(2 * rows, -1, np.int32)
        return self.entry_index
