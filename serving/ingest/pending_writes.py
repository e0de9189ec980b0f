"""Acknowledged events that a user's record may not include yet."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from stream.ids import hash_id, partition_for_id


class PendingWrites:
    """Latest event of each recent user, and the time since which their record lacks events.

    >>> pending_writes = PendingWrites(partitions=1)
    >>> pending_writes.record(["ann", "ben", "ann"], {0: 40}, now=0)
    >>> pending_writes.is_behind(hash_id("ann"), offset=41, covered_offsets={}, now=60_000)
    True
    >>> pending_writes.is_behind(hash_id("ann"), offset=42, covered_offsets={}, now=60_000)
    False
    """

    def __init__(self, partitions: int, max_users: int = 100_000, max_delay_ms: int = 5_000) -> None:
        self._partitions = partitions
        self._max_users = max_users
        self._max_delay_ms = max_delay_ms  # time that the stream worker has to update a record
        self._latest: OrderedDict[int, tuple[int, int, int]] = OrderedDict()  # partition, offset and ms, by user key

    def record(self, users: Iterable[str], first_offsets: Mapping[int, int], now: int) -> None:
        """Note durable events of these users, in order, from `first_offsets` by partition."""
        next_offsets = dict(first_offsets)
        for user in users:
            partition, key = partition_for_id(user, self._partitions), hash_id(user)
            pending = self._latest.pop(key, None)
            # The delay counts from the first event that the record lacks, or steady traffic would hide it.
            self._latest[key] = partition, next_offsets[partition], now if pending is None else pending[2]
            next_offsets[partition] += 1
        while len(self._latest) > self._max_users:
            self._latest.popitem(last=False)

    def is_behind(self, user_key: int, offset: int, covered_offsets: Mapping[str, int], now: int) -> bool:
        """Return True if a user's record at `offset` lacks an event that it should include by now.

        `covered_offsets`: next offset that the model has learned, by partition. An event below it was processed; if
        the record lacks it, it was quarantined or a duplicate.
        """
        pending = self._latest.get(user_key)
        if pending is None:
            return False
        partition, expected, start_ms = pending
        if offset >= expected or covered_offsets.get(str(partition), 0) > expected:
            del self._latest[user_key]
            return False
        return now - start_ms > self._max_delay_ms
