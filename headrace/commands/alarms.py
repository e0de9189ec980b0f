"""`headrace alarms list`: print the alarms of the detectors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from rich.text import Text

from headrace.commands.errors import UsageError
from headrace.commands.events.bounds import parse_bound
from headrace.commands.installation import open_existing_log
from headrace.commands.output import TextTable, format_count, format_time
from headrace.diagnostics.alarms import find_open_alarms, read_context
from headrace.diagnostics.quarantine import read_entries, resolved_events
from stream.clock import SystemClock
from stream.config import load
from stream.logs import EventLog
from stream.topics import ALARMS

_READ_SIZE = 4096


@dataclass(frozen=True, slots=True)
class AlarmFilter:
    """Conditions that an alarm has to fulfil; an empty one is none."""

    kind: str = ""
    detectors: tuple[str, ...] = ()
    since: str | None = None
    is_open: bool | None = None

    def matches(self, alarm: dict[str, Any]) -> bool:
        return (
            (not self.kind or alarm.get("kind") == self.kind)
            and (not self.detectors or alarm.get("detector") in self.detectors)
            and (self.is_open is None or alarm["open"] == self.is_open)
        )


def list_alarms(alarm_filter: AlarmFilter, config: Path | None, as_json: bool) -> int:
    """Print the alarms, oldest first."""
    now_ms = SystemClock().now_ms()
    with open_existing_log(load(config)) as log:
        offset = _find_start(log, alarm_filter.since, now_ms)
        context = read_context(log, resolved_events(read_entries(log)))
        open_ids = {entry.alarm.id for entry in find_open_alarms(log, context, now_ms)}
        alarms = [alarm for alarm in _read(log, offset, open_ids) if alarm_filter.matches(alarm)]
    if as_json:
        print(msgspec.json.encode(alarms).decode())
    elif alarms:
        _print_table(alarms)
    else:
        print("No alarm matches." if alarm_filter != AlarmFilter() else "No alarm has been raised.")
    return 0


def _find_start(log: EventLog, since: str | None, now_ms: int) -> int:
    start = log.start_offset(ALARMS, 0)
    if since is None:
        return start
    bound = parse_bound("--since", since, now_ms)
    if bound.time_ms is None:
        raise UsageError(f"--since {since!r} is invalid; expected a time (2026-01-31T08:00:00Z) or an age (-1h)")
    return max(start, bound.resolve(log, ALARMS, 0))


def _read(log: EventLog, offset: int, open_ids: set[str]) -> Iterator[dict[str, Any]]:
    """Alarms from an offset on, with the time of their record, and `open`."""
    while len(records := log.read(ALARMS, 0, offset, _READ_SIZE)):
        for value, time in zip(records.values, records.times, strict=True):
            if value:
                alarm: dict[str, Any] = msgspec.json.decode(value)
                yield alarm | {"raised": time, "open": alarm.get("id") in open_ids}
        offset = records.offsets[-1] + 1


def _print_table(alarms: list[dict[str, Any]]) -> None:
    table = TextTable(
        "alarm", "raised", "state", "kind", "remedy", "evidence", copied=("alarm", "raised", "state"),
        title=format_count(len(alarms), "alarm"),
    )  # fmt: skip
    for alarm in alarms:
        state = Text("open", "red") if alarm["open"] else Text("closed")
        evidence = msgspec.json.encode(alarm.get("evidence")).decode()
        table.add_row(str(alarm["id"]), format_time(alarm["raised"]), state, alarm["kind"], alarm["remedy"], evidence)
    table.print()
