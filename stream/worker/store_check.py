"""Check the user store while no event arrives."""

import time
from collections.abc import Callable, Collection
from operator import attrgetter

from stream.stores import StoreWatermark, UserStore, ownership_lost_error
from stream.worker.partition import Partition

_INTERVAL_S = 1.0


class StoreCheck:
    """Compare the watermark of one partition each second with the one written last.

    A write notices a store that has lost data. Without events there is no write: users would stay unknown until the
    next one. A store that is flushed has lost the watermark of every partition.

    `elapsed`: seconds from any start.
    """

    def __init__(self, store: UserStore, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._elapsed = elapsed
        self._next_run = elapsed() + _INTERVAL_S
        self._n_runs = 0

    def run_if_due(self, partitions: Collection[Partition]) -> None:
        """Raise OwnershipLost if the store has another watermark.

        A store that is away says nothing about its data; the next check or write will.
        """
        if self._elapsed() < self._next_run or not partitions:
            return
        self._next_run = self._elapsed() + _INTERVAL_S
        self._n_runs += 1
        partition = sorted(partitions, key=attrgetter("number"))[self._n_runs % len(partitions)]
        expected = partition.store_position.text
        try:
            actual = self._store.watermark(partition.number)
        except (ConnectionError, PermissionError):
            return
        if actual != expected:
            raise ownership_lost_error(StoreWatermark(partition.number, expected, expected), actual, "")
