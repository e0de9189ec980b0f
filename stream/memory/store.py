"""User store in memory, for one process."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream.stores import StoreWatermark, ownership_lost_error, validate_keys, validate_values


@dataclass(frozen=True, slots=True)
class StoreSnapshot:
    """Contents of a `MemoryStore` at one moment."""

    values: Mapping[int, bytes]
    watermarks: Mapping[int, str]


class MemoryStore:
    """`UserStore` in memory, for one process.

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

    def unchecked_health(self) -> str:
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

    def snapshot(self) -> StoreSnapshot:
        """Copy the contents, so that a test can return to them."""
        with self._lock:
            return StoreSnapshot(dict(self._values), dict(self._watermarks))

    def restore(self, snapshot: StoreSnapshot) -> None:
        """Replace the contents, as a store does that lost its last writes."""
        with self._lock:
            self._values, self._watermarks = dict(snapshot.values), dict(snapshot.watermarks)

    def clear(self) -> None:
        """Lose all values and watermarks, as a store does that restarts without its file."""
        self.restore(StoreSnapshot({}, {}))

    def close(self) -> None:
        """Keep the values, so that a test can use the same store again."""
