"""Check of the clocks: of this machine, of the processes, of the log, and of the events."""

from collections.abc import Mapping

from headrace.diagnostics.results import CheckResult, failed, format_seconds, passed
from headrace.diagnostics.scraping import ProcessReport
from stream.logs import EventLog
from stream.topics import EVENTS, MODEL_UPDATES

_MAX_OFFSET_S = 5.0
_MAX_EVENT_LEAD_S = 60.0
_NEWEST, _PARTITIONS = 5, 8  # records, and partitions of a topic, that are read
_NAME = "clock"


def check_clocks(reports: Mapping[str, ProcessReport], log: EventLog | None, now_ms: int) -> CheckResult:
    """Compare the clocks of this machine, the processes, the newest records and event time."""
    problems: list[str] = []
    for process, report in reports.items():
        if report.heartbeat_s is not None and abs(report.clock_offset_s) > _MAX_OFFSET_S:
            direction = "ahead of" if report.clock_offset_s > 0 else "behind"
            amount = format_seconds(abs(report.clock_offset_s))
            problems.append(f"the clock of {process} is {amount} {direction} this machine's")
    record_lead_s = _newest_record_lead(log, now_ms) if log else 0.0
    if record_lead_s > _MAX_OFFSET_S:
        lead = format_seconds(record_lead_s)
        problems.append(f"the newest records of the log are {lead} ahead: this clock is behind, or was set back")
    event_lead_s = _event_time_lead(reports["stream"], now_ms)
    if event_lead_s > _MAX_EVENT_LEAD_S:
        problems.append(
            f"event time is {format_seconds(event_lead_s)} ahead: a producer's clock or unit of ts is wrong"
        )
    if problems:
        fix = (
            "synchronize the clocks (chrony or systemd-timesyncd); lower HEADRACE_EVENTS__MAX_SKEW for producers ahead"
        )
        return failed(_NAME, "; ".join(problems), fix)
    return passed(_NAME, "this machine, the processes, the log and event time agree")


def _newest_record_lead(log: EventLog, now_ms: int) -> float:
    """Seconds by which the newest record is ahead of this clock; 0 without records."""
    leads = [0.0]
    for topic in (EVENTS, MODEL_UPDATES):
        for partition, end in list(log.end_offsets(topic).items())[:_PARTITIONS]:
            start = max(log.start_offset(topic, partition), end - _NEWEST)
            if end > start and len(records := log.read(topic, partition, start, _NEWEST)):
                leads.append((records.times[-1] - now_ms) / 1000)
    return max(leads)


def _event_time_lead(report: ProcessReport, now_ms: int) -> float:
    """Seconds by which the watermark of stream is ahead of its clock; 0 without a watermark."""
    watermarks = [
        value for (name, _), value in report.samples.items() if name == "headrace_watermark_timestamp_seconds"
    ]
    return max(watermarks, default=0.0) - now_ms / 1000 - report.clock_offset_s if watermarks else 0.0
