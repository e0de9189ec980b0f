"""The user store as a protocol: one value per user key, shared by the process that writes it and those that read it."""

from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Protocol

import numpy as np

_DRIVERS = {"local": "stream.local_store", "redis": "stream.redis_store"}


class UserStore(Protocol):
    """Key → bytes; may be used from several threads, and by several processes at once."""

    def get(self, key: int) -> bytes | None: ...

    def get_many(self, keys: np.ndarray) -> list[bytes | None]:
        """Values in the order of `keys`, (n,) uint64; None where a key is unknown."""
        ...

    def put_many(self, keys: np.ndarray, values: Sequence[bytes]) -> None:
        """Write values for keys, (n,) uint64, all or none, durable on return; the last one wins where a key repeats.

        ValueError for the key 0, which stands for no id.
        """
        ...

    def delete_many(self, keys: np.ndarray) -> None:
        """Forget keys, (n,) uint64; an unknown one is no error."""
        ...

    def scan(self) -> Iterator[tuple[int, bytes]]:
        """Every key with its value in ascending order of keys, each as it is when the scan gets there."""
        ...

    def count(self) -> int: ...

    def close(self) -> None: ...


def open_store(url: str, prefix: str = "") -> UserStore:
    """Open `local:FOLDER` or `redis://…`; stores with different prefixes see nothing of each other."""
    scheme, found, _ = url.partition(":")
    if not found or scheme not in _DRIVERS:
        raise ValueError(f"store url must be local:FOLDER or redis://host:port/db, got {url!r}")
    store: UserStore = import_module(_DRIVERS[scheme]).open_url(url, prefix)
    return store
