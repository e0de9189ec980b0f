"""What events do to what is known of the people who caused them, one after another, in one kernel."""

from typing import NamedTuple

import numpy as np

from stream.ids import NO_KEY
from stream.jit import kernel
from stream.users.columns import ROOM
from stream.users.profiles import DAY_MS, HISTORY, SESSION_GAP, SHOWN, SNAPSHOT
from stream.users.rate_limits import BARRED, MINUTE_MS, judge

_QUIET = 3_600_000  # ms of event time between two alarms about one person


class Happened(NamedTuple):
    """Events in order, n of them, each with the row of its person."""

    row: np.ndarray  # (n,) int64
    offset: np.ndarray  # (n,) int64
    type: np.ndarray  # (n,) uint8
    ts: np.ndarray  # (n,) int64
    item: np.ndarray  # (n,) uint64
    impression: np.ndarray  # (n,) uint64, 0 = none
    released: np.ndarray  # (n,) bool, to count whatever the screen says
    list_start: np.ndarray  # (n + 1,) int64
    list_item: np.ndarray  # uint64, what each impression showed


class People(NamedTuple):
    """Columns of `user_columns` by their names, one row per person."""

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
    met_size: np.ndarray
    met: np.ndarray
    shown_size: np.ndarray
    shown: np.ndarray
    pace: np.ndarray
    paced: np.ndarray
    alarmed: np.ndarray
    barred: np.ndarray
    barred_item: np.ndarray
    slates_size: np.ndarray
    slates: np.ndarray


class Stood(NamedTuple):
    """How each person stood just before each event, and what became of the event."""

    session_start: np.ndarray  # (n,) int64
    session_depth: np.ndarray  # (n,) int32
    rates: np.ndarray  # (n, 9) float32
    lengths: np.ndarray  # (n,) int64, of each one's piece of the next three
    item: np.ndarray
    type: np.ndarray
    ts: np.ndarray
    seen: np.ndarray  # (n,) int64, of each one's piece of the next
    shown: np.ndarray
    verdict: np.ndarray  # (n,) uint8
    alarming: np.ndarray  # (n,) bool
    applied: np.ndarray  # (n,) bool


def room_for(n: int, history: int) -> Stood:
    """For n events, before which people have so many rows of history at most, all together."""
    return Stood(
        session_start=np.empty(n, np.int64),
        session_depth=np.empty(n, np.int32),
        rates=np.empty((n, 9), np.float32),
        lengths=np.zeros(n, np.int64),
        item=np.empty(history, np.uint64),
        type=np.empty(history, np.uint8),
        ts=np.empty(history, np.int64),
        seen=np.zeros(n, np.int64),
        shown=np.empty(n * SHOWN, np.uint64),
        verdict=np.zeros(n, np.uint8),
        alarming=np.zeros(n, np.bool_),
        applied=np.zeros(n, np.bool_),
    )


@kernel
def apply(events: Happened, people: People, limits: np.ndarray, stood: Stood) -> tuple[int, int]:
    """Apply events in order; returns how many rows of `stood`'s history and of what was shown are filled."""
    # Taken apart here: to reach into a tuple in the loop counts references, which takes as long as the work itself.
    rows, offsets, kinds, times, items, impressions, released, list_start, list_item = events
    (
        offset, last_ts, session_start, session_depth, counts, rates, size, history_item, history_type, history_ts,
        met_size, met, shown_size, shown, pace, paced, alarmed, barred, barred_item, slates_size, slates,
    ) = people  # fmt: skip
    (
        stood_start, stood_depth, stood_rates, lengths, stood_item, stood_type, stood_ts, seen, stood_shown,
        verdicts, alarming, applied,
    ) = stood  # fmt: skip
    used, used_shown = 0, 0
    for i in range(rows.size):
        row, ts, kind, item = rows[i], times[i], kinds[i], items[i]
        fresh = ts - last_ts[row] > SESSION_GAP or session_depth[row] == 0
        stood_start[i] = ts if fresh else session_start[row]
        stood_depth[i] = 0 if fresh else session_depth[row]
        fade = np.float32(0.5 ** (max(0, ts - last_ts[row]) / DAY_MS))
        for t in range(9):
            stood_rates[i, t] = rates[row, t] * fade
        lengths[i] = min(size[row], SNAPSHOT)
        for h in range(size[row] - lengths[i], size[row]):
            stood_item[used], stood_type[used] = history_item[row, h], history_type[row, h]
            stood_ts[used] = history_ts[row, h]
            used += 1
        seen[i] = min(shown_size[row], SHOWN)
        for s in range(shown_size[row] - seen[i], shown_size[row]):
            stood_shown[used_shown] = shown[row, s]
            used_shown += 1
        if not _is_new(i, offset[row], rows, offsets, applied):
            continue
        applied[i] = True
        offset[row] = offsets[i]
        if kind != 0 and not released[i]:
            repeats = _repeats(row, item, kind, ts, size, history_item, history_type, history_ts)
            forged = impressions[i] != 0 and not _was_shown(row, impressions[i], slates_size, slates)
            verdicts[i] = judge(row, ts, repeats, forged, pace, paced, limits)
            if ts < barred[row] and (barred_item[row] == item or barred_item[row] == NO_KEY) and limits[0] < np.inf:
                verdicts[i] = BARRED
            if verdicts[i] != 0:
                alarming[i] = _alarms(row, ts, verdicts[i], alarmed)
                continue
        last_ts[row] = max(last_ts[row], ts)
        _count(row, kind, fade, counts, rates)
        if kind == 0:
            _show(row, list_item[list_start[i] : list_start[i + 1]], shown_size, shown)
            _show(row, impressions[i : i + 1], slates_size, slates)
            continue
        if fresh:
            session_start[row], session_depth[row] = ts, 0
        session_depth[row] += 1
        _remember(row, item, kind, ts, size, history_item, history_type, history_ts)
        _meet(row, item, met_size, met)
    return used, used_shown


@kernel
def _is_new(i: int, before: int, rows: np.ndarray, offset: np.ndarray, applied: np.ndarray) -> bool:
    """A record may hold several events of one user, so the offset may stand still but must not go back."""
    return offset[i] > before or (offset[i] == before and _during(rows, offset, applied, i))


@kernel
def _alarms(row: int, ts: int, verdict: int, alarmed: np.ndarray) -> bool:
    """Whether it is the first against this person in a while; whoever is barred was named by an alarm already."""
    alarms = verdict != BARRED and (alarmed[row] == 0 or ts - alarmed[row] > _QUIET)
    if alarms:
        alarmed[row] = ts
    return alarms


@kernel
def _count(row: int, kind: int, fade: np.float32, counts: np.ndarray, rates: np.ndarray) -> None:
    counts[row, kind] += 1
    for t in range(9):
        rates[row, t] *= fade
    rates[row, kind] += np.float32(1)


@kernel
def _remember(
    row: int, item: np.uint64, kind: int, ts: int, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray,
) -> None:  # fmt: skip
    """Append to the person's history, of which the oldest go when its room is full."""
    if size[row] == ROOM:
        keep = HISTORY - 1
        for h in range(keep):
            items[row, h] = items[row, ROOM - keep + h]
            kinds[row, h] = kinds[row, ROOM - keep + h]
            times[row, h] = times[row, ROOM - keep + h]
        size[row] = keep
    h = size[row]
    items[row, h], kinds[row, h], times[row, h] = item, kind, ts
    size[row] += 1


@kernel
def _during(rows: np.ndarray, offset: np.ndarray, applied: np.ndarray, i: int) -> bool:
    """Whether an earlier event of the same record and user was applied just now."""
    j = i - 1
    while j >= 0 and offset[j] == offset[i]:
        if rows[j] == rows[i] and applied[j]:
            return True
        j -= 1
    return False


@kernel
def _repeats(
    row: int, item: np.uint64, kind: int, ts: int, size: np.ndarray,
    items: np.ndarray, kinds: np.ndarray, times: np.ndarray,
) -> bool:  # fmt: skip
    """Whether the person has done the same with the same item within a minute."""
    for h in range(size[row] - 1, max(0, size[row] - SNAPSHOT) - 1, -1):
        if items[row, h] == item and kinds[row, h] == kind and abs(ts - times[row, h]) < MINUTE_MS:
            return True
    return False


@kernel
def _was_shown(row: int, impression: np.uint64, size: np.ndarray, slates: np.ndarray) -> bool:
    for s in range(size[row] - 1, -1, -1):  # noqa: SIM110
        if slates[row, s] == impression:
            return True
    return False


@kernel
def _show(row: int, slate: np.ndarray, shown_size: np.ndarray, shown: np.ndarray) -> None:
    """Append to the row's run, which keeps half its room at least; of a slate longer than that, its upper places."""
    room = shown.shape[1] // 2
    more = min(slate.size, room)
    if shown_size[row] + more > shown.shape[1]:
        first = shown_size[row] - room
        for s in range(room):
            shown[row, s] = shown[row, first + s]
        shown_size[row] = room
    for s in range(more):
        shown[row, shown_size[row] + s] = slate[s]
    shown_size[row] += more


@kernel
def _meet(row: int, key: np.uint64, met_size: np.ndarray, met: np.ndarray) -> None:
    n = met_size[row]
    for j in range(n):
        if met[row, j] == key:
            return
    if n == met.shape[1]:
        half = n // 2
        for j in range(n - half):
            met[row, j] = met[row, half + j]
        n -= half
    met[row, n] = key
    met_size[row] = n + 1
