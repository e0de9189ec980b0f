"""Acknowledged events that a user's record may not include yet."""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

from stream.ids import NO_KEY, hash_id, partition_for_id

V = TypeVar("V")
_MAX_ACTIONS = 64  # latest actions of a user that are remembered


class _Action(NamedTuple):
    """An action on an item, in a durable event."""

    item: int  # key
    partition: int
    offset: int
    ts: int  # ms, when it was acknowledged


class _Backlog(NamedTuple):
    """Durable events of a user that the record may lack, from the first to the latest."""

    partition: int
    first: int  # offset
    first_ms: int  # when it was acknowledged
    latest: int
    latest_ms: int


class PendingWrites:
    """Latest events of recent users: since when their record lacks some, and the items in these.

    >>> pending_writes = PendingWrites(partitions=1)
    >>> pending_writes.record([("ann", 7), ("ben", 8), ("ann", 9)], {0: 40}, now=0)
    >>> pending_writes.is_behind(hash_id("ann"), offset=41, covered_offsets={}, now=60_000)
    True
    >>> pending_writes.items(hash_id("ann"), offset=41, covered_offsets={}, now=60_000)
    [9]
    >>> pending_writes.is_behind(hash_id("ann"), offset=42, covered_offsets={}, now=60_000)
    False
    """

    def __init__(self, partitions: int, max_users: int = 100_000, max_delay_ms: int = 5_000) -> None:
        self._partitions = partitions
        self._max_users = max_users
        self._max_delay_ms = max_delay_ms  # time that the stream worker has to update a record
        self._backlogs: OrderedDict[int, _Backlog] = OrderedDict()  # by user key
        self._actions: OrderedDict[int, list[_Action]] = OrderedDict()  # by user key, oldest first

    def record(self, writes: Iterable[tuple[str, int]], first_offsets: Mapping[int, int], now: int) -> None:
        """Note durable events, in order, as (user, key of the item that the user acted on).

        `first_offsets`: of the events, by partition. The key is NO_KEY for events without an action.
        """
        next_offsets = dict(first_offsets)
        for user, item in writes:
            partition, key = partition_for_id(user, self._partitions), hash_id(user)
            offset = next_offsets[partition]
            backlog = self._backlogs.pop(key, _Backlog(partition, offset, now, offset, now))
            # The delay counts from the first event that the record lacks, or steady traffic would hide it.
            self._backlogs[key] = backlog._replace(latest=offset, latest_ms=now)
            if item != NO_KEY:
                actions = self._actions.pop(key, [])[1 - _MAX_ACTIONS :]
                self._actions[key] = [*actions, _Action(item, partition, offset, now)]
            next_offsets[partition] += 1
        _drop_oldest(self._backlogs, self._max_users)
        _drop_oldest(self._actions, self._max_users)

    def is_behind(self, user_key: int, offset: int, covered_offsets: Mapping[str, int], now: int) -> bool:
        """Return True if a user's record at `offset` lacks an event that it should include by now.

        `covered_offsets`: next offset that the model has learned, by partition. An event below it was processed; if
        the record lacks it, it was quarantined or a duplicate.
        """
        backlog = self._backlogs.get(user_key)
        if backlog is None:
            return False
        reached = max(offset, covered_offsets.get(str(backlog.partition), 0) - 1)
        if reached >= backlog.latest:
            del self._backlogs[user_key]
            return False
        if reached >= backlog.first:  # the record advances: the delay restarts
            backlog = backlog._replace(first=backlog.latest, first_ms=backlog.latest_ms)
            self._backlogs[user_key] = backlog
        return now - backlog.first_ms > self._max_delay_ms

    def items(self, user_key: int, offset: int, covered_offsets: Mapping[str, int], now: int) -> list[int]:
        """Keys of the items of acknowledged actions that a user's record at `offset` lacks.

        An action below `covered_offsets` counts for a short time only: the record may be written after the model.
        """
        actions = self._actions.get(user_key)
        if actions is None:
            return []
        missing = [
            action
            for action in actions
            if action.offset > offset
            and (
                covered_offsets.get(str(action.partition), 0) <= action.offset or now - action.ts <= self._max_delay_ms
            )
        ]
        if not missing:
            del self._actions[user_key]
        return [action.item for action in missing]


def _drop_oldest(users: OrderedDict[int, V], max_users: int) -> None:
    while len(users) > max_users:
        users.popitem(last=False)
