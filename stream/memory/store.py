"""A user store in memory, for one process."""

import threading
from collections.abc import Iterator, Sequence

import numpy as np

from stream.stores import StoreWatermark, ownership_lost_error, validate_keys, validate_values


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
        self._watermarks: dict[int, str] = {}

    def get(self, key: int) -> bytes | None:
        return self._values.get(key)

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        return [self._values.get(key) for key in validate_keys(keys).tolist()]

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        validate_values(keys, values)
        with self._lock:
            for watermark in watermarks:
                if self._watermarks.get(watermark.partition, "") != watermark.before:
                    raise ownership_lost_error(watermark, self._watermarks.get(watermark.partition, ""), "memory")
            self._watermarks |= {watermark.partition: watermark.after for watermark in watermarks}
            self._values.update(zip(keys.tolist(), values, strict=True))

    def watermark(self, partition: int) -> str:
        return self._watermarks.get(partition, "")

    def claim(self, partition: int) -> str:
        return self.watermark(partition)

    def health_problem(self) -> str:
        return ""

    def delete_many(self, keys: np.ndarray) -> None:
        with self._lock:
            for key in validate_keys(keys).tolist():
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
