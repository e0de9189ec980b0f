"""Alarms: what a detector noticed, for people and for machines. The topic only ever grows."""

import logging
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from stream import metrics
from stream.logs import EventLog
from stream.topics import ALARMS

AlarmKind = Literal["poison", "drift"]
_READ_SIZE = 4096
_logger = logging.getLogger(__name__)


class Alarm(msgspec.Struct, frozen=True):
    """One record of the alarms topic. `id` says what raised it: the same evidence makes the same id."""

    id: str
    ts: int  # event time, ms
    depth: Literal["actor", "stream", "learner", "service"]
    kind: AlarmKind  # drift is followed, poison is undone
    detector: str
    evidence: dict[str, Any]
    remedy: str  # what is done about it, in words


def raise_alarms(log: EventLog, alarms: Iterable[Alarm]) -> None:
    """Write alarms to their topic, and count them."""
    alarm_list = list(alarms)
    if not alarm_list:
        return
    log.append(ALARMS, 0, [(None, msgspec.json.encode(alarm)) for alarm in alarm_list])
    for alarm in alarm_list:
        metrics.alarms.labels(alarm.depth, alarm.kind, alarm.detector).inc()
        _logger.warning("alarm %s: %s, %s: %s", alarm.id, alarm.kind, alarm.remedy, alarm.evidence)


def read_alarms(log: EventLog, start_ts: int = 0) -> list[Alarm]:
    """Alarms that were appended at or after a time, ms."""
    alarms: list[Alarm] = []
    offset = max(log.start_offset(ALARMS, 0), log.offset_for_time(ALARMS, 0, start_ts))
    while len(records := log.read(ALARMS, 0, offset, _READ_SIZE)):
        alarms += [msgspec.json.decode(value, type=Alarm) for value in records.values if value]
        offset = records.offsets[-1] + 1
    return alarms
