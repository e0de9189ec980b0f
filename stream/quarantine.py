"""Quarantine: actions that must not be learnt from wait here until somebody releases or drops them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from stream import metrics
from stream.alarms import Alarm, raise_alarms, read_alarms
from stream.logs import EventLog
from stream.records.decoding import RELEASED_KEY_PREFIX, DecodedBatch
from stream.topics import EVENTS, QUARANTINE, USERS
from stream.users.rate_limits import DETECTORS
from stream.users.table import ApplyResult

_CLOCK_SKEW_MS = 60_000  # ms by which the clocks of two writers of the log may differ
_READ_SIZE = 4096
_REASONS = {
    "flood": "one person acts on the same few items faster than anybody does",
    "speed": "one person acts faster than anybody can",
    "shilling": "one of a group that pumps an item",
    "forged_impression": "one person names slates that they were not shown",
}


class QuarantinedAction(msgspec.Struct, frozen=True, tag="quarantined", tag_field="state"):
    """An action in quarantine."""

    event_id: str
    user_id: str
    item_id: str | None
    detector: str
    reason: str
    partition: int
    offset: int
    event: msgspec.Raw


class Resolution(msgspec.Struct, frozen=True, tag="resolved", tag_field="state"):
    """It is no longer in quarantine."""

    event_id: str
    partition: int
    offset: int
    outcome: Literal["released", "dropped"]


class Ban(msgspec.Struct, frozen=True):
    """A record of the users topic: what this person does with an item is held back up to an event time, ms."""

    item_id: str  # `ANYTHING`: with whatever item
    end_ts: int


@dataclass(slots=True)
class AlreadyReported:
    """What a crash left in the quarantine and alarms topics about events that are not yet published, by its id."""

    quarantine_ids: set[str] = field(default_factory=set)
    alarm_ids: set[str] = field(default_factory=set)


# Begins the key of such a record; no id of a person holds a control character.
BAN_KEY_PREFIX = b"\x01ban\x01"
ANY_ITEM = ""  # its key is NO_KEY
_ban_decoder = msgspec.json.Decoder(Ban)
_decoder = msgspec.json.Decoder(QuarantinedAction | Resolution)


def quarantine(
    log: EventLog,
    number: int,
    decoded_batch: DecodedBatch,
    rows: np.ndarray,
    result: ApplyResult,
    already_reported: AlreadyReported,
) -> None:
    """Write down what the screen holds back, but for what a crash left there already; `rows` are the intake's."""
    actions, alarms = [], []
    for i in np.flatnonzero(result.violation).tolist():
        row, detector = int(rows[i]), DETECTORS[result.violation[i]]
        metrics.events_quarantined.labels(detector).inc()
        action = _build_action(decoded_batch, row, detector, number)
        if _action_id(action) not in already_reported.quarantine_ids:
            actions.append(action)
        if result.is_alarm[i] and _action_id(action) not in already_reported.alarm_ids:
            alarms.append(_build_alarm(action, decoded_batch.events[row].ts))
    if actions:
        log.append(QUARANTINE, 0, [(None, msgspec.json.encode(action)) for action in actions])
    raise_alarms(log, alarms)


def ban(log: EventLog, partition: int, users: Iterable[str], item: str, end_ts: int) -> None:
    """Hold back what these people do with an item from now on."""
    value = msgspec.json.encode(Ban(item, end_ts))
    log.append(USERS, partition, [(BAN_KEY_PREFIX + user.encode(), value) for user in users])


def parse_ban(key: bytes | None, value: bytes | None) -> tuple[str, Ban] | None:
    """The person and the bar in a record of the users topic, None if it is another record or no sound one."""
    if key is None or not key.startswith(BAN_KEY_PREFIX):
        return None
    try:
        return key.removeprefix(BAN_KEY_PREFIX).decode(), _ban_decoder.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def reported_since(log: EventLog, number: int, offset: int) -> AlreadyReported:
    """What stands in quarantine and alarms about events at or after an offset, since a process died behind them."""
    pending = log.read(EVENTS, number, offset, 1)
    if not len(pending):
        return AlreadyReported()
    start_ts = pending.times[0] - _CLOCK_SKEW_MS
    entries = (
        entry
        for entry in _read_entries(log, log.offset_for_time(QUARANTINE, 0, start_ts))
        if isinstance(entry, QuarantinedAction)
    )
    return AlreadyReported(
        {_action_id(entry) for entry in entries if entry.partition == number and entry.offset >= offset},
        {alarm.id for alarm in read_alarms(log, start_ts)},
    )


def list_quarantined(log: EventLog) -> list[QuarantinedAction]:
    """What is in quarantine now, oldest first."""
    pending: dict[tuple[int, int, str], QuarantinedAction] = {}
    for entry in _read_entries(log, log.start_offset(QUARANTINE, 0)):
        key = entry.partition, entry.offset, entry.event_id
        if isinstance(entry, QuarantinedAction):
            pending[key] = entry
        else:
            pending.pop(key, None)
    return list(pending.values())


def release(log: EventLog, action: QuarantinedAction) -> None:
    """Send an event once more, so that the screen lets it pass."""
    log.append(EVENTS, action.partition, [(RELEASED_KEY_PREFIX + action.user_id.encode(), bytes(action.event))])
    _resolve(log, action, "released")


def drop(log: EventLog, action: QuarantinedAction) -> None:
    """Be done with an event: nothing is ever learnt from it."""
    _resolve(log, action, "dropped")


def _resolve(log: EventLog, action: QuarantinedAction, outcome: Literal["released", "dropped"]) -> None:
    log.append(
        QUARANTINE,
        0,
        [(None, msgspec.json.encode(Resolution(action.event_id, action.partition, action.offset, outcome)))],
    )


def _build_action(decoded_batch: DecodedBatch, row: int, detector: str, number: int) -> QuarantinedAction:
    event = decoded_batch.events[row]
    return QuarantinedAction(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        detector=detector,
        reason=_REASONS[detector],
        partition=number,
        offset=int(decoded_batch.batch.offset[row]),
        event=msgspec.Raw(decoded_batch.raw_event(row)),
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
