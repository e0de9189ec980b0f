"""Protocol of the user store: one value per user key, one writer, several readers."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream.ids import NO_KEY
from stream.logs import OwnershipLost


@dataclass(frozen=True, slots=True)
class StoreWatermark:
    """Position of the store in a partition, before and after a write.

    The writer defines the text.
    """

    partition: int
    before: str  # empty: nothing is written yet
    after: str


class UserStore(Protocol):
    """Map from user key to bytes; safe for several threads and several processes."""

    def get(self, key: int) -> bytes | None: ...

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        """Values in the order of `keys`, (n,) uint64; None for unknown keys."""
        ...

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        """Write values for keys, (n,) uint64, all or none, durable on return.

        The last value of a repeated key wins. The watermarks move together with the values. If one of them differs from
        its `before`, nothing is written and `OwnershipLost` is raised. ValueError for key 0, which means no id.
        """
        ...

    def watermark(self, partition: int) -> str:
        """Current watermark of a partition; empty in a store that is new or has lost its data."""
        ...

    def claim(self, partition: int) -> str:
        """Take ownership of a partition and return its watermark.

        Later writes of former owners fail. A store that moves watermarks together with values needs no further step for
        that.
        """
        ...

    def health_problem(self) -> str:
        """Problem with the configuration of the store, and its fix; empty if there is none."""
        ...

    def unchecked_health(self) -> str:
        """Part of the configuration that `health_problem` cannot look at; empty if there is none."""
        ...

    def delete_many(self, keys: np.ndarray) -> None:
        """Delete keys, (n,) uint64; unknown keys are ignored."""
        ...

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Every key with its value, by ascending key; each value is read when the scan reaches it."""
        ...

    def count(self) -> int: ...

    def close(self) -> None: ...


def validate_keys(keys: np.ndarray) -> np.ndarray:
    """Return the keys; TypeError unless they are uint64."""
    if keys.dtype != np.uint64:
        raise TypeError(f"keys must be uint64, got {keys.dtype}")
    return keys


def validate_values(keys: np.ndarray, values: Sequence[bytes]) -> None:
    """Raise an error unless each key is valid and has a value."""
    if validate_keys(keys).size != len(values):
        raise ValueError(f"expected one value per key, got {keys.size} keys and {len(values)} values")
    if (keys == NO_KEY).any():
        raise ValueError(f"key {NO_KEY} means no id and cannot be stored: skip events without a user id")


def ownership_lost_error(watermark: StoreWatermark, actual: str, location: str) -> OwnershipLost:
    """Error of a write whose watermark is not the one in the store."""
    message = f"the user store has partition {watermark.partition} at {actual!r}, expected {watermark.before!r}"
    return OwnershipLost(errno.ESTALE, f"{message}: another worker has written, or the store has lost data", location)
