"""Ids of the items that events name, by row."""

from collections.abc import Mapping

import numpy as np

from online_models.state.tables import State
from stream.records.batches import flatten_ragged
from stream.records.item_ids import ItemIds


class ItemIdTable:
    """Ids as one text, with the place of each row in it; an id that was set never changes.

    >>> table, keys = ItemIdTable(), np.array([7, 9], np.uint64)
    >>> ids = ItemIds(keys, np.array([0, 1, 3]), np.frombuffer(b"abb", np.uint8))
    >>> table.add(np.array([4, 0], np.int32), ids)
    >>> table.get(np.array([0, 1, 4]))
    ['bb', '', 'a']
    """

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._start = np.zeros(0, np.int64)  # by row, in the text
        self._length = np.zeros(0, np.int16)  # by row, bytes; 0 = unknown
        self._text = np.zeros(1024, np.uint8)
        self._n_rows = self._n_bytes = 0
        self._changed_rows: list[np.ndarray] = []

    def get(self, rows: np.ndarray) -> list[str]:
        """Return the ids of rows, "" for an unknown one."""
        start, end = np.zeros(rows.size, np.int64), np.zeros(rows.size, np.int64)
        is_known = self.has(rows)
        start[is_known] = self._start[rows[is_known]]
        end[is_known] = start[is_known] + self._length[rows[is_known]]
        return [self._text[a:b].tobytes().decode() for a, b in zip(start.tolist(), end.tolist(), strict=True)]

    def has(self, rows: np.ndarray) -> np.ndarray:
        """Return True for each row, (n,) bool, whose id is known."""
        is_known = np.zeros(rows.size, np.bool_)
        inside = (rows >= 0) & (rows < self._n_rows)
        is_known[inside] = self._length[rows[inside]] > 0
        return is_known

    def add(self, rows: np.ndarray, ids: ItemIds) -> None:
        """Store the ids of rows, (n,) int32, that have none; -1 is skipped."""
        new = np.flatnonzero((rows >= 0) & ~self.has(rows))
        if not new.size:
            return
        _, first = np.unique(rows[new], return_index=True)
        new = new[first]
        flat, start = flatten_ragged(ids.start, new)
        self._append(rows[new], np.diff(start), ids.text[flat])
        self._changed_rows.append(rows[new])

    def _append(self, rows: np.ndarray, lengths: np.ndarray, text: np.ndarray) -> None:
        """Append a text to the table's, as the ids of distinct rows with these lengths."""
        self._reserve(int(rows.max()) + 1, self._n_bytes + text.size)
        self._start[rows] = self._n_bytes + np.cumsum(lengths) - lengths
        self._length[rows] = lengths
        self._text[self._n_bytes : self._n_bytes + text.size] = text
        self._n_bytes += text.size

    def _reserve(self, n_rows: int, n_bytes: int) -> None:
        if n_rows > self._length.size:
            extra = max(n_rows, 2 * self._length.size) - self._length.size
            self._start = np.concatenate([self._start, np.zeros(extra, np.int64)])
            self._length = np.concatenate([self._length, np.zeros(extra, np.int16)])
        if n_bytes > self._text.size:
            self._text = np.concatenate([self._text, np.zeros(max(n_bytes, 2 * self._text.size), np.uint8)])
        self._n_rows = max(self._n_rows, n_rows)

    def state(self) -> State:
        """Return all ids as views; copy them before further learning."""
        return {
            "start": self._start[: self._n_rows],
            "length": self._length[: self._n_rows],
            "text": self._text[: self._n_bytes],
        }

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Replace all ids by a copy of `state`; the checkpoints of older versions have none."""
        self._clear()
        if "start" in state:
            n_rows, n_bytes = state["start"].size, state["text"].size
            self._reserve(n_rows, n_bytes)
            self._start[:n_rows], self._length[:n_rows] = state["start"], state["length"]
            self._text[:n_bytes], self._n_bytes = state["text"], n_bytes

    def changes(self) -> State:
        """Return the ids that were added since the last call, in that order."""
        rows = np.concatenate([np.zeros(0, np.int32), *self._changed_rows])
        self._changed_rows = []
        lengths = self._length[rows].astype(np.int64)
        flat = np.repeat(self._start[rows] - (np.cumsum(lengths) - lengths), lengths) + np.arange(lengths.sum())
        return {"rows": rows.astype(np.int32), "length": self._length[rows], "text": self._text[flat]}

    def apply(self, changes: Mapping[str, np.ndarray]) -> None:
        """Add another table's changes, after which both hold the same bits."""
        if "rows" in changes and changes["rows"].size:
            self._append(changes["rows"], changes["length"].astype(np.int64), changes["text"])
