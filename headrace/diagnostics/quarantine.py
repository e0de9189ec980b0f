"""Check of the quarantine: actions that wait for a decision."""

from collections import Counter
from collections.abc import Sequence

from headrace.diagnostics.results import CheckResult, failed, format_count, format_seconds, passed
from stream.clock import DAY_MS
from stream.logs import EventLog
from stream.quarantine import QuarantinedAction, QuarantineEntry, read_newest_entries

_MAX_ENTRIES = 10_000  # newest entries that are read
_NAME = "quarantine"

TimedEntry = tuple[QuarantineEntry, int]  # with its time, ms


def read_entries(log: EventLog) -> list[TimedEntry]:
    """Newest entries of the quarantine, oldest first."""
    return read_newest_entries(log, _MAX_ENTRIES)


def resolved_events(entries: Sequence[TimedEntry]) -> set[str]:
    """Names of the events that somebody has released or dropped, as in the ids of their alarms."""
    return {_event_name(entry) for entry, _ in entries if not isinstance(entry, QuarantinedAction)}


def _event_name(entry: QuarantineEntry) -> str:
    return f"{entry.partition}-{entry.offset}-{entry.event_id}"  # a record can hold several events


def check_quarantine(entries: Sequence[TimedEntry], now_ms: int) -> CheckResult:
    """Fail while an action that was quarantined within a day is neither released nor dropped."""
    resolved = resolved_events(entries)
    pending = [
        (entry, time_ms)
        for entry, time_ms in entries
        if isinstance(entry, QuarantinedAction) and _event_name(entry) not in resolved
    ]
    if not pending:
        return passed(_NAME, "empty")
    counts = Counter(entry.detector for entry, _ in pending)
    newest, time_ms = pending[-1]
    bound = "at least " if len(entries) == _MAX_ENTRIES else ""
    detectors = ", ".join(f"{count:,} {detector}" for detector, count in counts.most_common())
    age_s = (now_ms - time_ms) / 1000
    detail = (
        f"{bound}{format_count(len(pending), 'action')} ({detectors}); the newest is {newest.event_id} of user "
        f"{newest.user_id}, {format_seconds(age_s)} ago"
    )
    if age_s * 1000 > DAY_MS:
        return passed(_NAME, detail)
    fix = "headrace quarantine list shows them; decide with headrace quarantine release, or headrace quarantine drop"
    return failed(_NAME, detail, fix)
