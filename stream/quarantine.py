"""Quarantine: actions that must not be learnt from wait here until somebody releases or drops them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from stream import metrics
from stream.alarms import Alarm, known_alarms, raise_alarms
from stream.logs import EventLog
from stream.records.decoding import RELEASED, Intake
from stream.topics import EVENTS, QUARANTINE, USERS
from stream.users.rate_limits import DETECTORS
from stream.users.table import Applied

_SLACK = 60_000  # ms by which the clocks of two writers of the log may differ
_READ = 4096
_REASONS = {
    "flood": "one person acts on the same few items faster than anybody does",
    "speed": "one person acts faster than anybody can",
    "pumping": "one of a group that pumps an item",
    "forged": "one person names slates that they were not shown",
}


class Held(msgspec.Struct, frozen=True, tag="held", tag_field="state"):
    """An action in quarantine."""

    event_id: str
    user_id: str
    item_id: str | None
    detector: str
    reason: str
    partition: int
    offset: int
    event: msgspec.Raw


class Done(msgspec.Struct, frozen=True, tag="done", tag_field="state"):
    """It is no longer in quarantine."""

    event_id: str
    partition: int
    offset: int
    how: Literal["released", "dropped"]


class Bar(msgspec.Struct, frozen=True):
    """A record of the users topic: what this person does with an item is held back up to an event time, ms."""

    item_id: str  # `ANYTHING`: with whatever item
    until: int


@dataclass(slots=True)
class Told:
    """What a crash left in the quarantine and alarms topics about events that are not yet published, by its id."""

    quarantined: set[str] = field(default_factory=set)
    alarmed: set[str] = field(default_factory=set)


# Begins the key of such a record; no id of a person holds a control character.
BARRED = b"\x01barred\x01"
ANYTHING = ""  # its key is NO_KEY
_bars = msgspec.json.Decoder(Bar)
_decoder = msgspec.json.Decoder(Held | Done)


def quarantine(log: EventLog, number: int, intake: Intake, rows: np.ndarray, applied: Applied, told: Told) -> None:
    """Write down what the screen holds back, but for what a crash left there already; `rows` are the intake's."""
    held, alarms = [], []
    for i in np.flatnonzero(applied.verdict).tolist():
        row, detector = int(rows[i]), DETECTORS[applied.verdict[i]]
        metrics.quarantined.labels(detector).inc()
        one = _held(intake, row, detector, number)
        if _id(one) not in told.quarantined:
            held.append(one)
        if applied.alarming[i] and _id(one) not in told.alarmed:
            alarms.append(_alarm(one, intake.events[row].ts))
    if held:
        log.append(QUARANTINE, 0, [(None, msgspec.json.encode(one)) for one in held])
    raise_alarms(log, alarms)


def bar(log: EventLog, partition: int, users: Iterable[str], item: str, until: int) -> None:
    """Hold back what these people do with an item from now on."""
    value = msgspec.json.encode(Bar(item, until))
    log.append(USERS, partition, [(BARRED + user.encode(), value) for user in users])


def bar_in(key: bytes | None, value: bytes | None) -> tuple[str, Bar] | None:
    """The person and the bar in a record of the users topic, None if it is another record or no sound one."""
    if key is None or not key.startswith(BARRED):
        return None
    try:
        return key.removeprefix(BARRED).decode(), _bars.decode(value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def left_behind(log: EventLog, number: int, offset: int) -> Told:
    """What stands in quarantine and alarms about events at or after an offset, since a process died behind them."""
    waiting = log.read(EVENTS, number, offset, 1)
    if not len(waiting):
        return Told()
    since = waiting.times[0] - _SLACK
    entries = (one for one in _entries(log, log.find_time(QUARANTINE, 0, since)) if isinstance(one, Held))
    return Told(
        {_id(one) for one in entries if one.partition == number and one.offset >= offset},
        {alarm.id for alarm in known_alarms(log, since)},
    )


def held_back(log: EventLog) -> list[Held]:
    """What is in quarantine now, oldest first."""
    waiting: dict[tuple[int, int, str], Held] = {}
    for one in _entries(log, log.start(QUARANTINE, 0)):
        place = one.partition, one.offset, one.event_id
        if isinstance(one, Held):
            waiting[place] = one
        else:
            waiting.pop(place, None)
    return list(waiting.values())


def release(log: EventLog, one: Held) -> None:
    """Send an event once more, so that the screen lets it pass."""
    log.append(EVENTS, one.partition, [(RELEASED + one.user_id.encode(), bytes(one.event))])
    _close(log, one, "released")


def drop(log: EventLog, one: Held) -> None:
    """Be done with an event: nothing is ever learnt from it."""
    _close(log, one, "dropped")


def _close(log: EventLog, one: Held, how: Literal["released", "dropped"]) -> None:
    log.append(QUARANTINE, 0, [(None, msgspec.json.encode(Done(one.event_id, one.partition, one.offset, how)))])


def _held(intake: Intake, row: int, detector: str, number: int) -> Held:
    event = intake.events[row]
    return Held(
        event_id=event.event_id,
        user_id=event.user_id,
        item_id=event.item_id,
        detector=detector,
        reason=_REASONS[detector],
        partition=number,
        offset=int(intake.batch.offset[row]),
        event=msgspec.Raw(intake.raw(row)),
    )


def _alarm(one: Held, ts: int) -> Alarm:
    evidence: dict[str, Any] = {
        "user_id": one.user_id,
        "item_id": one.item_id,
        "reason": one.reason,
        "partition": one.partition,
        "offset": one.offset,
    }
    return Alarm(_id(one), ts, "actor", "poison", one.detector, evidence, "quarantine")


def _id(one: Held) -> str:
    return f"{one.detector}-{one.partition}-{one.offset}-{one.event_id}"


def _entries(log: EventLog, at: int) -> Iterator[Held | Done]:
    while len(records := log.read(QUARANTINE, 0, at, _READ)):
        yield from (_decoder.decode(value) for value in records.values if value)
        at = records.offsets[-1] + 1
