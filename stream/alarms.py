"""Alarms that detectors raise, in a topic that only grows."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from stream import metrics
from stream.clock import DAY_MS, HOUR_MS
from stream.logs import EventLog
from stream.topics import ALARMS

AlarmKind = Literal["poison", "drift"]
CLOSED_SUFFIX, DEFERRED_SUFFIX = "-closed", "-deferred"  # of the ids of alarms that continue another one
_READ_SIZE = 4096
_USER_FIELDS = frozenset({"user_id", "user_ids", "producer"})  # of the evidence: in the topic, never in a log line
_OPEN_MS = {"poison": DAY_MS, "drift": HOUR_MS}  # time after which an alarm counts as closed, by kind
_MAX_OPEN = 1000  # newest alarms that are read
_logger = logging.getLogger(__name__)


class Alarm(msgspec.Struct, frozen=True):
    """One record of the alarms topic; the same evidence has the same id."""

    id: Annotated[str, Meta(description="The same evidence has the same id.")]
    ts: Annotated[int, Meta(description="Event time, ms since 1970.")]
    depth: Annotated[Literal["actor", "stream", "learner", "service"], Meta(description="Part that is affected.")]
    kind: Annotated[AlarmKind, Meta(description="The model follows drift; the guard undoes poison.")]
    detector: Annotated[str, Meta(description="Detector that fired.")]
    evidence: Annotated[dict[str, Any], Meta(description="Numbers that it found.")]
    remedy: Annotated[str, Meta(description="The countermeasure, in words.")]


def raise_alarms(log: EventLog, alarms: Iterable[Alarm]) -> None:
    """Append alarms to their topic, count them and log them."""
    alarm_list = list(alarms)
    if not alarm_list:
        return
    log.append(ALARMS, 0, [(None, msgspec.json.encode(alarm)) for alarm in alarm_list])
    for alarm in alarm_list:
        metrics.alarms.labels(alarm.depth, alarm.kind, alarm.detector).inc()
        evidence = {name: value for name, value in alarm.evidence.items() if name not in _USER_FIELDS}
        _logger.warning("alarm %s: %s, %s: %s", alarm.id, alarm.kind, alarm.remedy, evidence)


def create_alarm_counters(sources: Iterable[tuple[str, AlarmKind, str]]) -> None:
    """Create the series of each (depth, kind, detector) at 0: its first alarm is an increase."""
    for source in sources:
        metrics.alarms.labels(*source)


def read_alarms(log: EventLog, start_ts: int = 0) -> list[Alarm]:
    """Alarms appended at or after a time, ms, oldest first."""
    alarms: list[Alarm] = []
    offset = max(log.start_offset(ALARMS, 0), log.offset_for_time(ALARMS, 0, start_ts))
    while len(records := log.read(ALARMS, 0, offset, _READ_SIZE)):
        alarms += [msgspec.json.decode(value, type=Alarm) for value in records.values if value]
        offset = records.offsets[-1] + 1
    return alarms


@dataclass(frozen=True, slots=True)
class OpenAlarm:
    """An alarm to which somebody should look."""

    alarm: Alarm
    raised_ms: int  # time of its record


def read_open_alarms(log: EventLog, now_ms: int, paused_by: str = "") -> list[OpenAlarm]:
    """Open alarms, oldest first, of the newest thousand.

    An alarm is open for a day after it was raised (drift, which the model follows by itself: for an hour), unless a
    later alarm reports its end; and as long as training is paused because of it (`paused_by`).
    """
    start, end = log.start_offset(ALARMS, 0), log.end_offset(ALARMS, 0)
    records = log.read(ALARMS, 0, max(start, end - _MAX_OPEN), _MAX_OPEN)
    alarms = [
        OpenAlarm(msgspec.json.decode(value, type=Alarm), time)
        for value, time in zip(records.values, records.times, strict=True)
        if value
    ]
    closed = {entry.alarm.id.removesuffix(CLOSED_SUFFIX) for entry in alarms if entry.alarm.id.endswith(CLOSED_SUFFIX)}
    return [entry for entry in alarms if _is_open(entry, closed, now_ms, paused_by)]


def _is_open(entry: OpenAlarm, closed: set[str], now_ms: int, paused_by: str) -> bool:
    alarm = entry.alarm
    if alarm.id in closed or alarm.id.endswith((CLOSED_SUFFIX, DEFERRED_SUFFIX)):
        return False
    return alarm.id == paused_by or now_ms - entry.raised_ms < _OPEN_MS[alarm.kind]
