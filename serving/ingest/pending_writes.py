"""Which events this process has acknowledged: by that it is told that a person's record has not kept up with them."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from stream.ids import hash_id, partition_for_id

_MAX_USERS = 100_000
_MAX_DELAY_MS = 5_000  # ms that a record may take to follow


class PendingWrites:
    """The latest event of each person who lately sent one, and since when it should be in their record.

    >>> acknowledged = PendingWrites(partitions=1)
    >>> acknowledged.record(["ann", "ben", "ann"], {0: 40}, now=0)
    >>> acknowledged.is_behind(hash_id("ann"), offset=41, covered_offsets={}, now=60_000)
    True
    >>> acknowledged.is_behind(hash_id("ann"), offset=42, covered_offsets={}, now=60_000)
    False
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._latest: OrderedDict[int, tuple[int, int, int]] = OrderedDict()  # partition, offset and ms, by user key

    def record(self, users: Iterable[str], first_offsets: Mapping[int, int], now: int) -> None:
        """Events of these users have become durable; `first`: where those of each partition begin."""
        next_offsets = dict(first_offsets)
        for user in users:
            partition, key = partition_for_id(user, self._partitions), hash_id(user)
            pending = self._latest.pop(key, None)
            # Whoever sends on and on has waited since their first event that is not in the record.
            self._latest[key] = partition, next_offsets[partition], now if pending is None else pending[2]
            next_offsets[partition] += 1
        while len(self._latest) > _MAX_USERS:
            self._latest.popitem(last=False)

    def is_behind(self, user_key: int, offset: int, covered_offsets: Mapping[str, int], now: int) -> bool:
        """Whether a record at `offset` of a user's key lacks an event that it should have by now.

        `covered`: next offset that was learnt, by partition. What was taken further lacks nothing: an event may have
        been held back, or been a repeat.
        """
        pending = self._latest.get(user_key)
        if pending is None:
            return False
        partition, expected, start_ms = pending
        if offset >= expected or covered_offsets.get(str(partition), 0) > expected:
            del self._latest[user_key]
            return False
        return now - start_ms > _MAX_DELAY_MS
