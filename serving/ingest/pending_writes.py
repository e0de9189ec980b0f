"""Which events this process has acknowledged: by that it is told that a person's record has not kept up with them."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from stream.ids import key_of, partition_of

_PEOPLE = 100_000
_PATIENCE = 5_000  # ms that a record may take to follow


class Acknowledged:
    """The latest event of each person who lately sent one, and since when it should be in their record.

    >>> acknowledged = Acknowledged(partitions=1)
    >>> acknowledged.note(["ann", "ben", "ann"], {0: 40}, now=0)
    >>> acknowledged.is_behind(key_of("ann"), offset=41, covered={}, now=60_000)
    True
    >>> acknowledged.is_behind(key_of("ann"), offset=42, covered={}, now=60_000)
    False
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._latest: OrderedDict[int, tuple[int, int, int]] = OrderedDict()  # partition, offset and ms, by user key

    def note(self, users: Iterable[str], first: Mapping[int, int], now: int) -> None:
        """Events of these users have become durable; `first`: where those of each partition begin."""
        next_ = dict(first)
        for user in users:
            partition, key = partition_of(user, self._partitions), key_of(user)
            waiting = self._latest.pop(key, None)
            # Whoever sends on and on has waited since their first event that is not in the record.
            self._latest[key] = partition, next_[partition], now if waiting is None else waiting[2]
            next_[partition] += 1
        while len(self._latest) > _PEOPLE:
            self._latest.popitem(last=False)

    def is_behind(self, user: int, offset: int, covered: Mapping[str, int], now: int) -> bool:
        """Whether a record at `offset` of a user's key lacks an event that it should have by now.

        `covered`: next offset that was learnt, by partition. What was taken further lacks nothing: an event may have
        been held back, or been a repeat.
        """
        waiting = self._latest.get(user)
        if waiting is None:
            return False
        partition, expected, since = waiting
        if offset >= expected or covered.get(str(partition), 0) > expected:
            del self._latest[user]
            return False
        return now - since > _PATIENCE
