"""Check the user store while no event arrives."""

import time
from collections.abc import Callable, Iterable

from stream.stores import StoreWatermark, UserStore, ownership_lost_error
from stream.worker.partition import Partition

_INTERVAL_S = 1.0


class StoreCheck:
    """Compare the watermarks of the store with those that were written last, each second.

    A write notices a store that has lost data. Without events there is no write: users would stay unknown until the
    next one.

    `elapsed`: seconds from any start.
    """

    def __init__(self, store: UserStore, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._elapsed = elapsed
        self._next_run = elapsed() + _INTERVAL_S

    def run_if_due(self, partitions: Iterable[Partition]) -> None:
        """Raise OwnershipLost if the store has another watermark.

        A store that is away says nothing about its data; the next check or write will.
        """
        if self._elapsed() < self._next_run:
            return
        self._next_run = self._elapsed() + _INTERVAL_S
        for partition in partitions:
            expected = partition.store_position.text
            try:
                actual = self._store.watermark(partition.number)
            except (ConnectionError, PermissionError):
                return
            if actual != expected:
                raise ownership_lost_error(StoreWatermark(partition.number, expected, expected), actual, "")
