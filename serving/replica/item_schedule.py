"""Times at which items begin or end to be available."""

import heapq

from stream.records.catalog import Item


class ItemSchedule:
    """Wait for the next change of availability of each item.

    >>> schedule = ItemSchedule()
    >>> schedule.add(7, Item("sale", available_from=100, expires_ts=200))
    >>> schedule.advance(100), schedule.now
    ([7], 100)
    """

    def __init__(self) -> None:
        self.now = 0  # ms
        self._times: dict[int, int] = {}  # next change by item key
        self._queue: list[tuple[int, int]] = []  # (time, key); stale where `_times` has another time

    def is_available(self, item: Item) -> bool:
        """Return True if the item may be recommended now."""
        has_begun = item.available_from is None or item.available_from <= self.now
        is_over = item.expires_ts is not None and item.expires_ts <= self.now
        return item.available and item.stock != 0 and has_begun and not is_over

    def add(self, key: int, item: Item) -> None:
        """Schedule the next change of an item."""
        changes = [time for time in (item.available_from, item.expires_ts) if time is not None and time > self.now]
        if not changes:
            self._times.pop(key, None)
        elif self._times.get(key) != (time := min(changes)):
            self._times[key] = time
            heapq.heappush(self._queue, (time, key))
            if len(self._queue) > 2 * len(self._times) + 1024:  # items that were written again and again
                self._queue = sorted((time, key) for key, time in self._times.items())

    def advance(self, now: int) -> list[int]:
        """Keys of the items that change until `now`, ms; time never goes back."""
        self.now = max(self.now, now)
        keys: list[int] = []
        while self._queue and self._queue[0][0] <= self.now:
            time, key = heapq.heappop(self._queue)
            if self._times.get(key) == time:
                del self._times[key]
                keys.append(key)
        return keys
