"""Kernel that applies events in order to the state of their users."""

from typing import NamedTuple

import numpy as np

from stream.clock import DAY_MS, HOUR_MS, MINUTE_MS
from stream.ids import NO_KEY
from stream.jit import kernel
from stream.records.decoding import NO_RETRACTION
from stream.users.columns import HISTORY_CAPACITY
from stream.users.merges import (
    NO_OPERATION,
    OPERATION_ATTACH,
    OPERATION_DETACH,
    Operations,
    find_position,
    insert_actions,
    restart_session,
)
from stream.users.owned_items import OWNING, LongLists, add_item
from stream.users.profiles import N_HISTORY, N_QUERY_HISTORY, N_SHOWN, SESSION_GAP_MS
from stream.users.rate_limits import BANNED, FORGOTTEN, RETRACTED, WITHOUT_CONSENT, check_limits
from stream.users.retractions import find_action, is_awaited, take_back, trim_history

_ALARM_INTERVAL_MS = HOUR_MS  # event time between two alarms about one user


class EventColumns(NamedTuple):
    """Events in order, each with the row of its user."""

    row: np.ndarray  # (n,) int64
    offset: np.ndarray  # (n,) int64
    type: np.ndarray  # (n,) uint8
    history_type: np.ndarray  # (n,) uint8, types as the history holds them
    ts: np.ndarray  # (n,) int64
    item: np.ndarray  # (n,) uint64
    impression: np.ndarray  # (n,) uint64, 0 = none
    event: np.ndarray  # (n,) uint64
    retraction: np.ndarray  # (n,) uint64, see `stream.records.decoding.EventBatch`
    is_released: np.ndarray  # (n,) bool, exempt from rate limits
    list_start: np.ndarray  # (n + 1,) int64
    list_item: np.ndarray  # (m,) uint64, items of impressions


class UserColumns(NamedTuple):
    """Columns of `stream.users.columns` by name, one row per user."""

    offset: np.ndarray
    last_ts: np.ndarray
    session_start: np.ndarray
    session_depth: np.ndarray
    counts: np.ndarray
    rates: np.ndarray
    size: np.ndarray
    item: np.ndarray
    type: np.ndarray
    ts: np.ndarray
    event: np.ndarray
    interacted_size: np.ndarray
    owned_size: np.ndarray
    interacted: np.ndarray
    shown_size: np.ndarray
    shown: np.ndarray
    minute_counts: np.ndarray
    minute_counts_ts: np.ndarray
    last_alarm_ts: np.ndarray
    ban_end_ts: np.ndarray
    banned_item: np.ndarray
    slates_size: np.ndarray
    slates: np.ndarray
    forgotten_ts: np.ndarray
    awaited_size: np.ndarray
    awaited: np.ndarray
    has_refused: np.ndarray


class PreEventState(NamedTuple):
    """State of each user just before each event, and the outcome of the event."""

    session_start: np.ndarray  # (n,) int64
    session_depth: np.ndarray  # (n,) int32
    rates: np.ndarray  # (n, 9) float32
    history_lengths: np.ndarray  # (n,) int64, lengths of the runs in the next three
    item: np.ndarray  # (h,) uint64
    type: np.ndarray  # (h,) uint8
    ts: np.ndarray  # (h,) int64
    shown_lengths: np.ndarray  # (n,) int64, lengths of the runs in the next
    shown: np.ndarray  # (s,) uint64
    violation: np.ndarray  # (n,) uint8
    is_alarm: np.ndarray  # (n,) bool
    is_applied: np.ndarray  # (n,) bool
    detached_counts: np.ndarray  # (n, 9) uint32, counts of a user who is detached; the query has the whole history
    attached_behind: np.ndarray  # (a,) int32, as `insert_actions` returns it
    attached_position: np.ndarray  # (a,) int16, of attached actions in the history of the query, -1 = too old for it
    is_undone: np.ndarray  # (n,) bool, a retraction whose action was taken back
    undone_position: np.ndarray  # (n,) int16, of that action in the history above, -1 = the history has dropped it
    n_behind: np.ndarray  # (n,) int32, actions in the whole history behind the removed one, -1 = none was removed


def allocate(n: int, n_history: int, operations: Operations) -> PreEventState:
    """Allocate the state for n events; `n_history` bounds the total length of their histories."""
    n_attached = operations.ts.size
    return PreEventState(
        session_start=np.empty(n, np.int64),
        session_depth=np.empty(n, np.int32),
        rates=np.empty((n, 9), np.float32),
        history_lengths=np.zeros(n, np.int64),
        item=np.empty(n_history, np.uint64),
        type=np.empty(n_history, np.uint8),
        ts=np.empty(n_history, np.int64),
        shown_lengths=np.zeros(n, np.int64),
        shown=np.empty(n * N_SHOWN, np.uint64),
        violation=np.zeros(n, np.uint8),
        is_alarm=np.zeros(n, np.bool_),
        is_applied=np.zeros(n, np.bool_),
        detached_counts=np.zeros((operations.counts.shape[0], 9), np.uint32),
        attached_behind=np.full(n_attached, -1, np.int32),
        attached_position=np.full(n_attached, -1, np.int16),
        is_undone=np.zeros(n, np.bool_),
        undone_position=np.full(n, -1, np.int16),
        n_behind=np.full(n, -1, np.int32),
    )


@kernel
def apply(
    events: EventColumns, operations: Operations, users: UserColumns, long_lists: LongLists, limits: np.ndarray,
    pre_event: PreEventState,
) -> tuple[int, int]:  # fmt: skip
    """Apply events in order; returns the filled lengths of history and shown items."""
    # Unpack here: access to a tuple in the loop counts references, which takes as long as the work itself.
    (
        rows, offsets, kinds, new_types, times, items, impressions, event_keys, retractions, is_released, list_start,
        list_item,
    ) = events  # fmt: skip
    (
        offset, last_ts, session_start, session_depth, counts, rates, size, history_item, history_type, history_ts,
        history_event, interacted_size, owned_size, interacted, shown_size, shown, minute_counts, minute_counts_ts,
        last_alarm_ts, ban_end_ts, banned_item, slates_size, slates, forgotten_ts, awaited_size, awaited,
        has_refused,
    ) = users  # fmt: skip
    (
        pre_session_start, pre_session_depth, pre_rates, history_lengths, pre_item, pre_type, pre_ts,
        shown_lengths, pre_shown, violations, is_alarm, is_applied, detached_counts, attached_behind,
        attached_position, is_undone, undone_position,
        n_behind,
    ) = pre_event  # fmt: skip
    operation, attached_start, attached_type, attached_ts, attached_event, attached_counts = operations
    n_history, n_shown = 0, 0
    for i in range(rows.size):
        if rows[i] < 0:  # nobody
            pre_session_start[i], pre_session_depth[i], pre_rates[i] = times[i], 0, 0.0
            continue
        row, ts, kind, item, retraction = rows[i], times[i], kinds[i], items[i], retractions[i]
        is_new_session = ts - last_ts[row] > SESSION_GAP_MS or session_depth[row] == 0
        pre_session_start[i] = ts if is_new_session else session_start[row]
        pre_session_depth[i] = 0 if is_new_session else session_depth[row]
        decay = np.float32(0.5 ** (max(0, ts - last_ts[row]) / DAY_MS))
        for t in range(9):
            pre_rates[i, t] = rates[row, t] * decay
        if retraction != NO_RETRACTION or operation[i] != NO_OPERATION:
            trim_history(row, size, history_item, history_type, history_ts, history_event)
        history_lengths[i] = min(size[row], N_QUERY_HISTORY)
        if operation[i] != NO_OPERATION:
            history_lengths[i] = size[row] if operation[i] == OPERATION_DETACH else 0
        first, retracted = size[row] - history_lengths[i], -1
        if retraction != NO_RETRACTION:
            retracted = find_action(
                row, retraction, item, kind, ts, size, history_item, history_type, history_ts, history_event
            )
            first = first if retracted < 0 else max(0, min(first, retracted - N_QUERY_HISTORY // 2))
            pre_session_start[i], pre_session_depth[i] = session_start[row], session_depth[row]
        for h in range(first, first + history_lengths[i]):
            pre_item[n_history], pre_type[n_history] = history_item[row, h], history_type[row, h]
            pre_ts[n_history] = history_ts[row, h]
            n_history += 1
        shown_lengths[i] = min(shown_size[row], N_SHOWN)
        for s in range(shown_size[row] - shown_lengths[i], shown_size[row]):
            pre_shown[n_shown] = shown[row, s]
            n_shown += 1
        if not _is_new(i, offset[row], rows, offsets, is_applied):
            continue
        is_applied[i] = True
        offset[row] = offsets[i]
        if has_refused[row]:
            violations[i] = WITHOUT_CONSENT
            continue
        is_of_slate = kind != 0 and impressions[i] != 0
        is_forged = is_of_slate and not _has_slate(row, impressions[i], slates_size, slates)
        if _is_from_before(ts, is_forged, forgotten_ts[row]):
            violations[i] = FORGOTTEN
            continue
        if operation[i] == OPERATION_DETACH:
            detached_counts[i] = counts[row]
            counts[row], rates[row] = 0, 0.0
            size[row], interacted_size[row], owned_size[row], session_depth[row] = 0, 0, 0, 0
        elif operation[i] == OPERATION_ATTACH:
            begin, end = attached_start[i], attached_start[i + 1]
            insert_actions(
                row, begin, end, list_item[list_start[i] : list_start[i + 1]], attached_type, attached_ts,
                attached_event, size, history_item, history_type, history_ts, history_event, attached_behind,
            )  # fmt: skip
            trim_history(row, size, history_item, history_type, history_ts, history_event)
            for t in range(9):
                counts[row, t] += attached_counts[i, t]
            for a in range(begin, end):
                attached_position[a] = find_position(row, attached_event[a], size, history_event)
                kind, item = attached_type[a] & 0x7F, list_item[list_start[i] + a - begin]
                if attached_ts[a] > last_ts[row]:
                    fading = np.float32(0.5 ** ((attached_ts[a] - last_ts[row]) / DAY_MS))
                    for t in range(9):
                        rates[row, t] *= fading
                    last_ts[row] = attached_ts[a]
                rates[row, kind] += np.float32(0.5 ** ((last_ts[row] - attached_ts[a]) / DAY_MS))
                add_item(row, item, OWNING[kind], interacted_size, owned_size, interacted, long_lists)
            restart_session(row, last_ts, session_start, session_depth, size, history_ts)
            history_lengths[i] = size[row]
            for h in range(size[row]):
                pre_item[n_history], pre_type[n_history] = history_item[row, h], history_type[row, h]
                pre_ts[n_history] = history_ts[row, h]
                n_history += 1
        if operation[i] != NO_OPERATION:
            continue
        if retraction != NO_RETRACTION:
            if retracted >= 0:
                undone_position[i], n_behind[i] = retracted - first, size[row] - 1 - retracted
            is_undone[i] = take_back(
                row, retracted, retraction, item, kind, ts, last_ts, session_start, session_depth, counts, rates, size,
                history_item, history_type, history_ts, history_event, interacted_size, owned_size, interacted,
                long_lists, awaited_size, awaited,
            )  # fmt: skip
            continue
        if kind != 0 and is_awaited(row, event_keys[i], item, kind, ts, awaited_size, awaited):
            violations[i] = RETRACTED
            continue
        if kind != 0 and not is_released[i]:
            is_repeat = _is_repeat(row, item, new_types[i], ts, size, history_item, history_type, history_ts)
            violations[i] = check_limits(row, ts, is_repeat, is_forged, minute_counts, minute_counts_ts, limits)
            if ts < ban_end_ts[row] and (banned_item[row] == item or banned_item[row] == NO_KEY) and limits[0] < np.inf:
                violations[i] = BANNED
            if violations[i] != 0:
                is_alarm[i] = _is_alarm_due(row, ts, violations[i], last_alarm_ts)
                continue
        last_ts[row] = max(last_ts[row], ts)
        _count(row, kind, decay, counts, rates)
        if kind == 0:
            _append_shown(row, list_item[list_start[i] : list_start[i + 1]], shown_size, shown)
            _append_shown(row, impressions[i : i + 1], slates_size, slates)
            continue
        if is_new_session:
            session_start[row], session_depth[row] = ts, 0
        session_depth[row] += 1
        _append_history(
            row, item, new_types[i], ts, event_keys[i], size, history_item, history_type, history_ts, history_event
        )
        add_item(row, item, OWNING[kind], interacted_size, owned_size, interacted, long_lists)
    return n_history, n_shown


@kernel
def _is_new(i: int, last_offset: int, rows: np.ndarray, offset: np.ndarray, is_applied: np.ndarray) -> bool:
    """Return True if an event was not applied before.

    Several events of one record share an offset.
    """
    return offset[i] > last_offset or (offset[i] == last_offset and _has_applied_sibling(rows, offset, is_applied, i))


@kernel
def _is_from_before(ts: int, is_of_unknown_slate: bool, forgotten_ts: int) -> bool:
    """Return True for an event from before its user was forgotten.

    That includes an action on a slate from before: the slates of the user since then are known.
    """
    return forgotten_ts != 0 and (ts <= forgotten_ts or (is_of_unknown_slate and ts - forgotten_ts <= DAY_MS))


@kernel
def _is_alarm_due(row: int, ts: int, violation: int, last_alarm_ts: np.ndarray) -> bool:
    """Return True once per user and interval; a banned user already has an alarm."""
    is_due = violation != BANNED and (last_alarm_ts[row] == 0 or ts - last_alarm_ts[row] > _ALARM_INTERVAL_MS)
    if is_due:
        last_alarm_ts[row] = ts
    return is_due


@kernel
def _count(row: int, kind: int, decay: np.float32, counts: np.ndarray, rates: np.ndarray) -> None:
    counts[row, kind] += 1
    for t in range(9):
        rates[row, t] *= decay
    rates[row, kind] += np.float32(1)


@kernel
def _append_history(
    row: int, item: np.uint64, kind: int, ts: int, event: np.uint64, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray, events: np.ndarray,
) -> None:  # fmt: skip
    """Append to the history of a user; a full history drops its oldest actions."""
    if size[row] == HISTORY_CAPACITY:
        keep = N_HISTORY - 1
        for h in range(keep):
            items[row, h] = items[row, HISTORY_CAPACITY - keep + h]
            kinds[row, h] = kinds[row, HISTORY_CAPACITY - keep + h]
            times[row, h] = times[row, HISTORY_CAPACITY - keep + h]
            events[row, h] = events[row, HISTORY_CAPACITY - keep + h]
        size[row] = keep
    h = size[row]
    items[row, h], kinds[row, h], times[row, h], events[row, h] = item, kind, ts, event
    size[row] += 1


@kernel
def _has_applied_sibling(rows: np.ndarray, offset: np.ndarray, is_applied: np.ndarray, i: int) -> bool:
    """Return True if an earlier event of the same record and user was applied in this batch."""
    j = i - 1
    while j >= 0 and offset[j] == offset[i]:
        if rows[j] == rows[i] and is_applied[j]:
            return True
        j -= 1
    return False


@kernel
def _is_repeat(
    row: int, item: np.uint64, kind: int, ts: int, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray,
) -> bool:  # fmt: skip
    """Return True if the user has done the same action on the same item within a minute."""
    for h in range(size[row] - 1, max(0, size[row] - N_QUERY_HISTORY) - 1, -1):
        if items[row, h] == item and kinds[row, h] == kind and abs(ts - times[row, h]) < MINUTE_MS:
            return True
    return False


@kernel
def _has_slate(row: int, impression: np.uint64, size: np.ndarray, slates: np.ndarray) -> bool:
    for s in range(size[row] - 1, -1, -1):  # noqa: SIM110
        if slates[row, s] == impression:
            return True
    return False


@kernel
def _append_shown(row: int, slate: np.ndarray, shown_size: np.ndarray, shown: np.ndarray) -> None:
    """Append a slate to a row, which keeps at least half of its capacity.

    A longer slate loses its end.
    """
    n_kept = shown.shape[1] // 2
    n_new = min(slate.size, n_kept)
    if shown_size[row] + n_new > shown.shape[1]:
        first = shown_size[row] - n_kept
        for s in range(n_kept):
            shown[row, s] = shown[row, first + s]
        shown_size[row] = n_kept
    for s in range(n_new):
        shown[row, shown_size[row] + s] = slate[s]
    shown_size[row] += n_new
