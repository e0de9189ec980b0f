"""Quarantine for actions that must not train; an operator releases or drops them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from stream import metrics
from stream.alarms import Alarm, raise_alarms, read_alarms
from stream.logs import EventLog, Record
from stream.records.decoding import RELEASED_KEY_PREFIX, DecodedBatch
from stream.topics import EVENTS, QUARANTINE, USERS
from stream.users.rate_limits import DETECTORS, FORGOTTEN
from stream.users.table import ApplyResult

_CLOCK_SKEW_MS = 60_000  # maximum difference between the clocks of two writers of the log
_READ_SIZE = 4096
_WRITE_SIZE = 1000  # actions per append
_REASONS = {
    "flood": "one user acts on the same few items faster than a person does",
    "speed": "one user acts faster than a person can",
    "shilling": "the user belongs to a group that promotes an item",
    "forged_impression": "one user names slates that this user was not shown",
}


class QuarantinedAction(msgspec.Struct, frozen=True, tag="quarantined", tag_field="state"):
    """Record of the quarantine topic: an action enters quarantine."""

    event_id: str
    user_id: str
    item_id: str | None
    detector: str
    reason: str
    partition: int
    offset: int
    event: msgspec.Raw


class Resolution(msgspec.Struct, frozen=True, tag="resolved", tag_field="state"):
    """Record of the quarantine topic: an action leaves quarantine."""

    event_id: str
    partition: int
    offset: int
    outcome: Literal["released", "dropped"]


class Ban(msgspec.Struct, frozen=True):
    """Record of the users topic: quarantine a user's actions on an item up to an event time."""

    item_id: str  # ANY_ITEM: actions on every item
    end_ts: int  # ms


@dataclass(slots=True)
class AlreadyReported:
    """Ids that a crash left in quarantine and alarms, for events not yet published."""

    quarantine_ids: set[str] = field(default_factory=set)
    alarm_ids: set[str] = field(default_factory=set)


QuarantineEntry = QuarantinedAction | Resolution
BAN_KEY_PREFIX = b"\x01ban\x01"  # first bytes of the key of a ban; user ids hold no control characters
ANY_ITEM = ""  # hashes to NO_KEY
_ban_decoder = msgspec.json.Decoder(Ban)
_decoder = msgspec.json.Decoder(QuarantinedAction | Resolution)


def quarantine(
    log: EventLog, partition: int, decoded: DecodedBatch, result: ApplyResult, already_reported: AlreadyReported
) -> None:
    """Quarantine the events that violate a rate limit, and raise alarms.

    It skips those that were reported before a crash.
    """
    actions, alarms = [], []
    for row in np.flatnonzero((result.violation != 0) & (result.violation < FORGOTTEN)).tolist():
        detector = DETECTORS[result.violation[row]]
        metrics.events_quarantined.labels(detector).inc()
        action = _build_action(decoded, row, detector, partition)
        if _action_id(action) not in already_reported.quarantine_ids:
            actions.append(action)
        if result.is_alarm[row] and _action_id(action) not in already_reported.alarm_ids:
            alarms.append(_build_alarm(action, decoded.events[row].ts))
    if actions:
        log.append(QUARANTINE, 0, [(None, msgspec.json.encode(action)) for action in actions])
    raise_alarms(log, alarms)


def ban(log: EventLog, partition: int, users: Iterable[str], item: str, end_ts: int) -> None:
    """Quarantine the actions of these users on an item, up to an event time, ms."""
    value = msgspec.json.encode(Ban(item, end_ts))
    log.append(USERS, partition, [(BAN_KEY_PREFIX + user.encode(), value) for user in users])


def parse_ban(key: bytes | None, value: bytes | None) -> tuple[str, Ban] | None:
    """Parse the user id and the ban in a record of the users topic; None if there is no ban."""
    if key is None or not key.startswith(BAN_KEY_PREFIX):
        return None
    try:
        return key.removeprefix(BAN_KEY_PREFIX).decode(), _ban_decoder.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def reported_since(log: EventLog, partition: int, offset: int) -> AlreadyReported:
    """Ids that a crashed process left in quarantine and alarms, for events from an offset on."""
    pending = log.read(EVENTS, partition, offset, 1)
    if not len(pending):
        return AlreadyReported()
    start_ts = pending.times[0] - _CLOCK_SKEW_MS
    entries = (
        entry
        for entry in _read_entries(log, log.offset_for_time(QUARANTINE, 0, start_ts))
        if isinstance(entry, QuarantinedAction)
    )
    return AlreadyReported(
        {_action_id(entry) for entry in entries if entry.partition == partition and entry.offset >= offset},
        {alarm.id for alarm in read_alarms(log, start_ts)},
    )


def list_quarantined(log: EventLog) -> list[QuarantinedAction]:
    """Actions that are in quarantine now, oldest first."""
    pending: dict[tuple[int, int, str], QuarantinedAction] = {}
    for entry in _read_entries(log, log.start_offset(QUARANTINE, 0)):
        key = entry.partition, entry.offset, entry.event_id
        if isinstance(entry, QuarantinedAction):
            pending[key] = entry
        else:
            pending.pop(key, None)
    return list(pending.values())


def read_newest_entries(log: EventLog, limit: int) -> list[tuple[QuarantineEntry, int]]:
    """Newest entries of the quarantine topic with their times, ms; oldest first."""
    start, end = log.start_offset(QUARANTINE, 0), log.end_offset(QUARANTINE, 0)
    records = log.read(QUARANTINE, 0, max(start, end - limit), limit)
    return [(_decoder.decode(value), time) for value, time in zip(records.values, records.times, strict=True) if value]


def release(log: EventLog, actions: Sequence[QuarantinedAction]) -> None:
    """Append events to the events topic again, exempt from rate limits.

    A crash in between leaves events in quarantine that are released already; a second release of these is a duplicate,
    which the stream worker skips.
    """
    for chunk in _chunks(actions):
        records: dict[int, list[Record]] = {}
        for action in chunk:
            record = (RELEASED_KEY_PREFIX + action.user_id.encode(), bytes(action.event))
            records.setdefault(action.partition, []).append(record)
        log.append_many(EVENTS, records)
        _resolve(log, chunk, "released")


def drop(log: EventLog, actions: Sequence[QuarantinedAction]) -> None:
    """Remove events from quarantine for good; nothing ever trains on them."""
    for chunk in _chunks(actions):
        _resolve(log, chunk, "dropped")


def _chunks(actions: Sequence[QuarantinedAction]) -> Iterator[Sequence[QuarantinedAction]]:
    return (actions[i : i + _WRITE_SIZE] for i in range(0, len(actions), _WRITE_SIZE))


def _resolve(log: EventLog, actions: Sequence[QuarantinedAction], outcome: Literal["released", "dropped"]) -> None:
    resolutions = [Resolution(action.event_id, action.partition, action.offset, outcome) for action in actions]
    log.append(QUARANTINE, 0, [(None, msgspec.json.encode(resolution)) for resolution in resolutions])


def _build_action(decoded: DecodedBatch, row: int, detector: str, partition: int) -> QuarantinedAction:
    event = decoded.events[row]
    return QuarantinedAction(
        event_id=event.event_id,
        user_id=event.user,
        item_id=event.item_id,
        detector=detector,
        reason=_REASONS[detector],
        partition=partition,
        offset=int(decoded.batch.offset[row]),
        event=msgspec.Raw(decoded.raw_event(row)),
    )


def _build_alarm(action: QuarantinedAction, ts: int) -> Alarm:
    evidence: dict[str, Any] = {
        "user_id": action.user_id,
        "item_id": action.item_id,
        "reason": action.reason,
        "partition": action.partition,
        "offset": action.offset,
    }
    return Alarm(_action_id(action), ts, "actor", "poison", action.detector, evidence, "quarantine")


def _action_id(action: QuarantinedAction) -> str:
    return f"{action.detector}-{action.partition}-{action.offset}-{action.event_id}"


def _read_entries(log: EventLog, offset: int) -> Iterator[QuarantinedAction | Resolution]:
    while len(records := log.read(QUARANTINE, 0, offset, _READ_SIZE)):
        yield from (_decoder.decode(value) for value in records.values if value)
        offset = records.offsets[-1] + 1
