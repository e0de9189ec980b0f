"""Join the history of an anonymous user to that of an account.

An `alias` names both. The worker of the account answers with a `detach` event for the anonymous user, whose worker
empties that user and answers with an `attach` event for the account. Each is an event of its user's partition, so one
worker never writes the users of another, and a repeat after a crash is a duplicate.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from stream.ids import hash_ids
from stream.jit import kernel
from stream.records.batches import ragged_starts
from stream.records.events import ALIAS, ATTACH, DETACH, Event
from stream.users.columns import HISTORY_CAPACITY
from stream.users.profiles import SESSION_GAP_MS

NO_OPERATION, OPERATION_ALIAS, OPERATION_DETACH, OPERATION_ATTACH = range(4)
_OPERATIONS = {ALIAS: OPERATION_ALIAS, DETACH: OPERATION_DETACH, ATTACH: OPERATION_ATTACH}


class Operations(NamedTuple):
    """Operation of each of n events, and the actions of the `attach` events among them."""

    operation: np.ndarray  # (n,) uint8
    start: np.ndarray  # (n + 1,) int64, actions of event i are the entries [start[i], start[i + 1]) of the next three
    type: np.ndarray  # (a,) uint8, as a history holds them
    ts: np.ndarray  # (a,) int64, ms
    event: np.ndarray  # (a,) uint64, keys of event ids
    counts: np.ndarray  # (n, 9) uint32, all events of the anonymous user, by type; (0, 9) without operations


def find_operations(events: Sequence[Event]) -> Operations:
    """Find the operations among events."""
    operation = np.zeros(len(events), np.uint8)
    rows = [i for i, event in enumerate(events) if event.type in _OPERATIONS]
    counts = np.zeros((len(events) if rows else 0, 9), np.uint32)
    lengths = np.zeros(len(events), np.int64)
    for i in rows:
        operation[i] = _OPERATIONS[events[i].type]
        lengths[i], counts[i] = len(events[i].actions or ()), events[i].counts or 0
    actions = [action for i in rows for action in events[i].actions or ()]
    return Operations(
        operation,
        ragged_starts(lengths),
        np.array([action.type for action in actions], np.uint8),
        np.array([action.ts for action in actions], np.int64),
        hash_ids([action.event_id for action in actions]),
        counts,
    )


@kernel
def insert_actions(
    row: int, begin: int, end: int, new_items: np.ndarray, new_kinds: np.ndarray, new_times: np.ndarray,
    new_events: np.ndarray, size: np.ndarray, items: np.ndarray, kinds: np.ndarray, times: np.ndarray,
    events: np.ndarray, n_behind: np.ndarray,
) -> None:  # fmt: skip
    """Insert actions [begin, end) into a history by time.

    A full history drops its oldest actions. `new_items` has entry 0 for action `begin`. `n_behind` receives the number
    of actions behind each one when it was inserted, -1 for an action that is older than a full history.
    """
    for a in range(begin, end):
        at = size[row]
        while at > 0 and times[row, at - 1] > new_times[a]:
            at -= 1
        n_behind[a] = size[row] - at
        if size[row] == HISTORY_CAPACITY:
            if at == 0:
                n_behind[a] = -1
                continue
            for h in range(1, at):
                items[row, h - 1], kinds[row, h - 1] = items[row, h], kinds[row, h]
                times[row, h - 1], events[row, h - 1] = times[row, h], events[row, h]
            at -= 1
        else:
            for h in range(size[row], at, -1):
                items[row, h], kinds[row, h] = items[row, h - 1], kinds[row, h - 1]
                times[row, h], events[row, h] = times[row, h - 1], events[row, h - 1]
            size[row] += 1
        items[row, at], kinds[row, at], times[row, at], events[row, at] = (
            new_items[a - begin], new_kinds[a], new_times[a], new_events[a],
        )  # fmt: skip


@kernel
def find_position(row: int, event: np.uint64, size: np.ndarray, events: np.ndarray) -> int:
    """Return the index of an action in a history, -1 if it is not there."""
    for h in range(size[row] - 1, -1, -1):
        if events[row, h] == event:
            return h
    return -1


@kernel
def restart_session(
    row: int, last_ts: np.ndarray, session_start: np.ndarray, session_depth: np.ndarray, size: np.ndarray,
    times: np.ndarray,
) -> None:  # fmt: skip
    """Compute the current session from the history."""
    ts, depth = last_ts[row], 0
    for h in range(size[row] - 1, -1, -1):
        if ts - times[row, h] > SESSION_GAP_MS:
            break
        ts, depth = min(ts, times[row, h]), depth + 1
    if depth > session_depth[row]:
        session_start[row], session_depth[row] = ts, depth
