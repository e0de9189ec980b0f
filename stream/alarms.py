"""Alarms: what a detector noticed, for people and for machines. The topic only ever grows."""

import logging
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from stream import metrics
from stream.logs import EventLog
from stream.topics import ALARMS

Kind = Literal["poison", "drift"]
_READ = 4096
_logger = logging.getLogger(__name__)


class Alarm(msgspec.Struct, frozen=True):
    """One record of the alarms topic. `id` says what raised it: the same evidence makes the same id."""

    id: str
    ts: int  # event time, ms
    depth: Literal["actor", "stream", "learner", "service"]
    kind: Kind  # drift is followed, poison is undone
    detector: str
    evidence: dict[str, Any]
    remedy: str  # what is done about it, in words


def raise_alarms(log: EventLog, alarms: Iterable[Alarm]) -> None:
    """Write alarms to their topic, and count them."""
    raised = list(alarms)
    if not raised:
        return
    log.append(ALARMS, 0, [(None, msgspec.json.encode(alarm)) for alarm in raised])
    for alarm in raised:
        metrics.alarms.labels(alarm.depth, alarm.kind, alarm.detector).inc()
        _logger.warning("alarm %s: %s, %s: %s", alarm.id, alarm.kind, alarm.remedy, alarm.evidence)


def known_alarms(log: EventLog, since: int = 0) -> list[Alarm]:
    """Alarms that were appended at or after a time, ms."""
    alarms: list[Alarm] = []
    at = max(log.start(ALARMS, 0), log.find_time(ALARMS, 0, since))
    while len(records := log.read(ALARMS, 0, at, _READ)):
        alarms += [msgspec.json.decode(value, type=Alarm) for value in records.values if value]
        at = records.offsets[-1] + 1
    return alarms
