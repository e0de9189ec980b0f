"""Features as they were when a list was shown, for lists that were not logged with theirs."""

import numpy as np

from online_models.tables import State


class Remembered:
    """Features of lists as they were when shown, kept until the outcome is known: a ring of rows.

    Without it a click would be learnt with counts that already hold the click.
    """

    def __init__(self, width: int, rows: int = 1 << 15, lists: int = 1 << 13) -> None:
        self._kept: State = {
            "rows": np.zeros((rows, width), np.float32),
            "key": np.zeros(lists, np.uint64),
            "begin": np.zeros(lists, np.int64),
            "head": np.zeros(1, np.int64),  # rows ever written
        }

    def put(self, impressions: np.ndarray, start: np.ndarray, x: np.ndarray) -> None:
        rows, head = self._kept["rows"], self._kept["head"]
        room = rows.shape[0]
        for i, key in enumerate(impressions):
            length = int(start[i + 1] - start[i])
            if key == 0 or length > room:
                continue
            slot = int(key) % self._kept["key"].size
            self._kept["key"][slot], self._kept["begin"][slot] = key, head[0]
            rows[np.arange(head[0], head[0] + length) % room] = x[start[i] : start[i + 1]]
            head[0] += length

    def get(self, impression: int, length: int) -> np.ndarray | None:
        """The rows of a list, (length, width), or None if they are forgotten."""
        slot = impression % self._kept["key"].size
        begin, room = int(self._kept["begin"][slot]), self._kept["rows"].shape[0]
        if self._kept["key"][slot] != impression or begin + room < self._kept["head"][0] or not impression:
            return None
        rows: np.ndarray = self._kept["rows"][np.arange(begin, begin + length) % room]
        return rows

    def state(self) -> State:
        return self._kept

    def restore(self, state: State) -> None:
        self._kept = {name: state[name].copy() for name in self._kept}
