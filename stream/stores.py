"""The user store as a protocol: one value per user key, shared by the process that writes it and those that read it."""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from stream.ids import NO_KEY
from stream.logs import OwnershipLost


@dataclass(frozen=True, slots=True)
class StoreWatermark:
    """How far the store has come in a partition, in the words of whoever writes it, before a write and after it."""

    partition: int
    before: str  # empty: nothing was ever written
    after: str


class UserStore(Protocol):
    """Key → bytes; may be used from several threads, and by several processes at once."""

    def get(self, key: int) -> bytes | None: ...

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        """Values in the order of `keys`, (n,) uint64; None where a key is unknown."""
        ...

    def put_many(self, keys: np.ndarray, values: Sequence[bytes], watermarks: Sequence[StoreWatermark] = ()) -> None:
        """Write values for keys, (n,) uint64, all or none, durable on return; the last one wins where a key repeats.

        The marks are moved together with the values, unless one is not where it is said to be: then nothing is
        written, and `Overtaken` is raised. ValueError for the key 0, which stands for no id.
        """
        ...

    def watermark(self, partition: int) -> str:
        """The newest mark of a partition; empty in a store that is new, or has lost what it had."""
        ...

    def claim(self, partition: int) -> str:
        """Its mark, for whoever takes up the partition: what others had under way for it is not written any more.

        Where marks move together with values, they see to that by themselves.
        """
        ...

    def health_problem(self) -> str:
        """What is wrong with how the store is set up, and how to mend it; empty if nothing is."""
        ...

    def delete_many(self, keys: np.ndarray) -> None:
        """Forget keys, (n,) uint64; an unknown one is no error."""
        ...

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Every key with its value in ascending order of keys, each as it is when the scan gets there."""
        ...

    def count(self) -> int: ...

    def close(self) -> None: ...


def validate_keys(keys: np.ndarray) -> np.ndarray:
    """The keys, if they are of the right type."""
    if keys.dtype != np.uint64:
        raise TypeError(f"keys must be uint64, got {keys.dtype}")
    return keys


def validate_values(keys: np.ndarray, values: Sequence[bytes]) -> None:
    """Refuse what cannot be put."""
    if validate_keys(keys).size != len(values):
        raise ValueError(f"each key needs a value, got {keys.size} keys and {len(values)} values")
    if (keys == NO_KEY).any():
        raise ValueError(f"key {NO_KEY} stands for no id and has no state to keep")


def ownership_lost_error(watermark: StoreWatermark, actual: str, location: str) -> OwnershipLost:
    """The error of a store whose mark is not where a writer left it."""
    message = f"the user store has partition {watermark.partition} at {actual!r}, not at {watermark.before!r}"
    return OwnershipLost(
        errno.ESTALE, f"{message}: another worker has written, or the store has lost what was written", location
    )
