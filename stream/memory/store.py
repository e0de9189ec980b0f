"""A user store in memory, for one process."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np

from stream.stores import Mark, checked_keys, checked_values, overtaken


class MemoryStore:
    """A `UserStore` in memory, for one process.

    >>> store = MemoryStore()
    >>> store.put_many(np.array([7], np.uint64), [b"state"])
    >>> store.get(7)
    b'state'
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[int, bytes] = {}
        self._marks: dict[int, str] = {}

    def get(self, key: int) -> bytes | None:
        return self._values.get(key)

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        return [self._values.get(key) for key in checked_keys(keys).tolist()]

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], marks: Sequence[Mark] = ()) -> None:
        checked_values(keys, values)
        with self._lock:
            for mark in marks:
                if self._marks.get(mark.partition, "") != mark.before:
                    raise overtaken(mark, self._marks.get(mark.partition, ""), "memory")
            self._marks |= {mark.partition: mark.after for mark in marks}
            self._values.update(zip(keys.tolist(), values, strict=True))

    def mark(self, partition: int) -> str:
        return self._marks.get(partition, "")

    def claim(self, partition: int) -> str:
        return self.mark(partition)

    def trouble(self) -> str:
        return ""

    def delete_many(self, keys: np.ndarray) -> None:
        with self._lock:
            for key in checked_keys(keys).tolist():
                self._values.pop(key, None)

    def scan(self) -> Iterator[tuple[int, bytes]]:
        for key in sorted(self._values):
            value = self._values.get(key)
            if value is not None:
                yield key, value

    def count(self) -> int:
        return len(self._values)

    def close(self) -> None:
        """The values stay: a test may go on with the same store."""
