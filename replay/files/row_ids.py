"""Generate event ids from the content of rows, so that loading a file twice counts once."""

from collections.abc import Sequence

import numpy as np

from stream.ids import KeyIndex, hash_ids

_WINDOW_ROWS = 4_000_000  # about 100 MB


class RowIdGenerator:
    """Hash of each row, with a number for the second and later equal rows of a file.

    Equal rows that are more than 4 million rows apart get the same id.

    >>> ids = RowIdGenerator("click")
    >>> first, second, third = ids.make_ids(["u1,a,17", "u2,a,18", "u1,a,17"])
    >>> third == f"{first}~1", RowIdGenerator("click").make_ids(["u2,a,18"]) == [second]
    (True, True)
    """

    def __init__(self, salt: str) -> None:
        self._salt = f"{salt}\x1f" if salt else ""
        self._clear()

    def make_ids(self, rows: Sequence[str]) -> list[str]:
        keys = hash_ids([self._salt + row for row in rows])
        numbers = self._count(keys)
        names = [f"{key:016x}" for key in keys.tolist()]
        for i in np.flatnonzero(numbers).tolist():
            names[i] += f"~{numbers[i]}"
        return names

    def _clear(self) -> None:
        self._index = KeyIndex()
        self._counts = np.zeros(1024, np.int64)

    def _count(self, keys: np.ndarray) -> np.ndarray:
        """Number of earlier rows with the same key, (n,) int64."""
        if len(self._index) > _WINDOW_ROWS:
            self._clear()
        rows, _ = self._index.lookup_or_insert(keys, len(self._index))
        if len(self._index) > self._counts.size:
            self._counts = np.concatenate([self._counts, np.zeros(len(self._index), np.int64)])
        order = np.argsort(rows, kind="stable")
        is_first = np.diff(rows[order], prepend=-1) != 0
        run_start = np.maximum.accumulate(np.where(is_first, np.arange(rows.size), 0))
        numbers = np.empty(rows.size, np.int64)
        numbers[order] = np.arange(rows.size) - run_start
        numbers += self._counts[rows]
        np.add.at(self._counts, rows, 1)
        return numbers
