"""Take actions back: undo them in the state of their user, or await those that come later."""

import numpy as np

from stream.clock import DAY_MS
from stream.ids import GOLDEN_GAMMA, mix64
from stream.jit import kernel
from stream.records.batches import EventType
from stream.records.decoding import LATEST_ACTION
from stream.users.owned_items import OWNING, LongLists, find_item, remove_item
from stream.users.profiles import N_AWAITED, N_HISTORY

_PLAIN_TYPE = 0x7F  # mask of the type in a history, see `stream.records.signs`
_ANY_TIME = 1 << 62
_LASTING = np.zeros(len(EventType), np.bool_)  # by type: actions that no retraction of a like or of a cart takes back
_LASTING[[EventType.dislike, EventType.purchase, EventType.rating]] = True


@kernel
def trim_history(
    row: int, size: np.ndarray, items: np.ndarray, kinds: np.ndarray, times: np.ndarray, events: np.ndarray
) -> None:
    """Keep the actions that a record has: a row then changes as if it was just read."""
    surplus = size[row] - N_HISTORY
    if surplus <= 0:
        return
    for h in range(N_HISTORY):
        items[row, h], kinds[row, h] = items[row, h + surplus], kinds[row, h + surplus]
        times[row, h], events[row, h] = times[row, h + surplus], events[row, h + surplus]
    size[row] = N_HISTORY


@kernel
def find_action(
    row: int, retraction: np.uint64, item: np.uint64, kind: int, ts: int, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray, events: np.ndarray,
) -> int:  # fmt: skip
    """Return the index in the history of the action to take back, -1 if it is not there.

    By type, it is the latest action of that type on that item which is not later than `ts`, ms.
    """
    for h in range(size[row] - 1, -1, -1):
        if retraction == LATEST_ACTION:
            if items[row, h] == item and (kinds[row, h] & _PLAIN_TYPE) == kind and times[row, h] <= ts:
                return h
        elif events[row, h] == retraction:
            return h
    return -1


@kernel
def take_back(
    row: int, at: int, retraction: np.uint64, item: np.uint64, kind: int, ts: int, last_ts: np.ndarray,
    session_start: np.ndarray, session_depth: np.ndarray, counts: np.ndarray, rates: np.ndarray, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray, events: np.ndarray, interacted_size: np.ndarray,
    owned_size: np.ndarray, interacted: np.ndarray, long_lists: LongLists, awaited_size: np.ndarray,
    awaited: np.ndarray,
) -> bool:  # fmt: skip
    """Undo an action of the history, or an older one; return False if it has not arrived.

    `at`: as `find_action` returns it. A retraction of an action that has not arrived is remembered.
    """
    if at >= 0:
        kind, item = kinds[row, at] & _PLAIN_TYPE, items[row, at]
        _undo_counts(row, kind, times[row, at], counts, rates, last_ts, session_start, session_depth)
        _remove_entry(row, at, size, items, kinds, times, events)
    elif retraction == LATEST_ACTION and _is_older_action(
        row, item, kind, counts, size, kinds, interacted_size, owned_size, interacted, long_lists
    ):
        counts[row, kind] -= np.uint32(1)
    else:
        _await_action(row, retraction, item, kind, ts, awaited_size, awaited)
        return False
    _release_item(row, item, kind, counts, size, items, kinds, interacted_size, owned_size, interacted, long_lists)
    return True


@kernel
def _undo_counts(
    row: int, kind: int, ts: int, counts: np.ndarray, rates: np.ndarray, last_ts: np.ndarray,
    session_start: np.ndarray, session_depth: np.ndarray,
) -> None:  # fmt: skip
    """Take an action in the history out of the counts of its user."""
    if counts[row, kind] > 0:
        counts[row, kind] -= np.uint32(1)
    decay = np.float32(0.5 ** (max(0, last_ts[row] - ts) / DAY_MS))
    rates[row, kind] = max(np.float32(0), rates[row, kind] - decay)
    if session_depth[row] > 0 and ts >= session_start[row]:
        session_depth[row] -= 1


@kernel
def _remove_entry(
    row: int, at: int, size: np.ndarray, items: np.ndarray, kinds: np.ndarray, times: np.ndarray, events: np.ndarray
) -> None:
    """Remove an entry of a history."""
    for h in range(at, size[row] - 1):
        items[row, h], kinds[row, h] = items[row, h + 1], kinds[row, h + 1]
        times[row, h], events[row, h] = times[row, h + 1], events[row, h + 1]
    size[row] -= 1


@kernel
def _count_in_history(row: int, kind: int, size: np.ndarray, kinds: np.ndarray) -> int:
    count = 0
    for h in range(size[row]):
        count += (kinds[row, h] & _PLAIN_TYPE) == kind
    return count


@kernel
def _is_older_action(
    row: int, item: np.uint64, kind: int, counts: np.ndarray, size: np.ndarray, kinds: np.ndarray,
    interacted_size: np.ndarray, owned_size: np.ndarray, interacted: np.ndarray, long_lists: LongLists,
) -> bool:  # fmt: skip
    """Return True if the history has dropped actions of this type, and the user owns the item."""
    at = find_item(row, item, interacted_size, interacted, long_lists)
    is_older: bool = counts[row, kind] > _count_in_history(row, kind, size, kinds)
    return is_older and 0 <= at < owned_size[row]


@kernel
def _release_item(
    row: int, item: np.uint64, kind: int, counts: np.ndarray, size: np.ndarray, items: np.ndarray, kinds: np.ndarray,
    interacted_size: np.ndarray, owned_size: np.ndarray, interacted: np.ndarray, long_lists: LongLists,
) -> None:  # fmt: skip
    """Update the own items after an action on an item was removed from history and counts.

    The item stays where another action of the history puts it. After a like or a cart it also stays owned if it may
    belong to a purchase or a rating that the history has dropped.
    """
    is_touched, is_owned = False, False
    for h in range(size[row]):
        if items[row, h] == item:
            is_touched, is_owned = True, is_owned or OWNING[kinds[row, h] & _PLAIN_TYPE]
    at = find_item(row, item, interacted_size, interacted, long_lists)
    if at < 0 or is_owned or (at < owned_size[row] and not OWNING[kind]):
        return
    if OWNING[kind] and not _LASTING[kind]:
        for lasting in range(_LASTING.size):
            if _LASTING[lasting] and counts[row, lasting] > _count_in_history(row, lasting, size, kinds):
                return
    if not is_touched or OWNING[kind]:
        remove_item(row, at, is_touched, interacted_size, owned_size, interacted, long_lists)


@kernel
def _type_key(item: np.uint64, kind: int) -> np.uint64:
    return mix64(np.uint64(item) + np.uint64(kind + 1) * GOLDEN_GAMMA)


@kernel
def _await_action(
    row: int, retraction: np.uint64, item: np.uint64, kind: int, ts: int, awaited_size: np.ndarray, awaited: np.ndarray
) -> None:
    """Remember a retraction whose action has not arrived; the oldest one is dropped.

    Entries are a key, of the event or of item and type, and the latest time of the action, ms.
    """
    is_typed = retraction == LATEST_ACTION
    key = _type_key(item, kind) if is_typed else retraction
    _drop_awaited(row, key, awaited_size, awaited)
    if awaited_size[row] == 2 * N_AWAITED:
        _drop_awaited(row, awaited[row, 0], awaited_size, awaited)
    at = awaited_size[row]
    awaited[row, at], awaited[row, at + 1] = key, np.uint64(ts if is_typed else _ANY_TIME)
    awaited_size[row] += 2


@kernel
def is_awaited(
    row: int, event: np.uint64, item: np.uint64, kind: int, ts: int, awaited_size: np.ndarray, awaited: np.ndarray
) -> bool:
    """Return True if an action was taken back before it arrived; its retraction is then done."""
    if awaited_size[row] == 0:
        return False
    type_key = _type_key(item, kind)
    for a in range(0, awaited_size[row], 2):
        key = awaited[row, a]
        if key in (event, type_key) and ts <= np.int64(awaited[row, a + 1]):
            _drop_awaited(row, key, awaited_size, awaited)
            return True
    return False


@kernel
def _drop_awaited(row: int, key: np.uint64, awaited_size: np.ndarray, awaited: np.ndarray) -> None:
    for a in range(0, awaited_size[row], 2):
        if awaited[row, a] == key:
            for b in range(a, awaited_size[row] - 2):
                awaited[row, b] = awaited[row, b + 2]
            awaited_size[row] -= 2
            return
