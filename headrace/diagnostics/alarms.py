"""Check of the alarms: those that are open, with their remedies."""

from collections.abc import Collection
from dataclasses import dataclass

from headrace.diagnostics.results import CheckResult, failed, format_count, format_seconds, passed
from online_models.control import current_pause
from stream.alarms import OpenAlarm, read_open_alarms
from stream.logs import EventLog
from stream.topics import CONTROL

_SHOWN = 3  # newest alarms with their details
_NAME = "alarms"


@dataclass(frozen=True, slots=True)
class AlarmContext:
    """Facts from outside the alarms topic that keep an alarm open, or close it."""

    paused_by: str  # alarm for which training is paused, "" if there is none
    resolved: Collection[str]  # names of quarantined events with a decision


def read_context(log: EventLog, resolved: Collection[str]) -> AlarmContext:
    pause = current_pause(log, log.end_offset(CONTROL, 0))
    return AlarmContext(pause.reason if pause else "", resolved)


def find_open_alarms(log: EventLog, context: AlarmContext, now_ms: int) -> list[OpenAlarm]:
    """Open alarms, oldest first."""
    return [entry for entry in read_open_alarms(log, now_ms, context.paused_by) if not _is_resolved(entry, context)]


def check_alarms(log: EventLog, context: AlarmContext, now_ms: int) -> CheckResult:
    """List the open alarms, newest first."""
    alarms = find_open_alarms(log, context, now_ms)
    if not alarms:
        return passed(_NAME, "none open")
    shown = [_describe(entry, now_ms) for entry in reversed(alarms[-_SHOWN:])]
    more = f"; and {len(alarms) - _SHOWN:,} more" if len(alarms) > _SHOWN else ""
    detail = f"{format_count(len(alarms), 'alarm')} open: {'; '.join(shown)}{more}"
    fix = "headrace alarms list --open has the evidence; docs/operations.md, AlarmRaised, has the actions"
    return failed(_NAME, detail, fix)


def _describe(entry: OpenAlarm, now_ms: int) -> str:
    alarm = entry.alarm
    age = format_seconds((now_ms - entry.raised_ms) / 1000)
    return f"{alarm.id} ({alarm.kind}, {alarm.detector}, {age} ago), remedy: {alarm.remedy}"


def _is_resolved(entry: OpenAlarm, context: AlarmContext) -> bool:
    """Return True if somebody has released or dropped the action that raised the alarm."""
    alarm = entry.alarm
    return alarm.depth == "actor" and alarm.id.removeprefix(f"{alarm.detector}-") in context.resolved
