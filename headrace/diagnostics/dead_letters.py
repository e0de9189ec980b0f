"""Check of the dead letters: how many events are rejected, why, and what to do."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from headrace.diagnostics.results import CheckResult, failed, format_count, passed
from stream.clock import DAY_MS, HOUR_MS
from stream.logs import EventLog
from stream.topics import DEAD_LETTER, EVENTS

_MAX_RATIO = 0.01
_WINDOWS = ((HOUR_MS, "hour"), (DAY_MS, "day"))  # the first with an event counts
_SAMPLE = 2_000  # newest records read of each topic
_SAMPLED_PARTITIONS = 4  # of the events topic, the largest
_TOP = 3  # reasons shown
_NAME = "dead letters"
_FIXES: Mapping[str, str] = {
    "too_old": "raise HEADRACE_EVENTS__MAX_AGE (0: no limit) before sending old events again",
    "too_early": "correct the clock or the unit of ts at the producer; ts is in milliseconds",
    "bad_ts": "send ts in epoch milliseconds",
    "not_json": "send JSON in UTF-8",
    "not_object": "send one JSON object, or an array of them",
    "unknown_type": "use a type of docs/events.md",
    "missing_field": "send every required field",
    "wrong_type": "send each field with the type of docs/events.md",
    "bad_id": "send ids of 1 to 256 bytes without control characters",
    "bad_value": "send finite values that are not negative",
    "bad_propensity": "send propensities above 0 and at most 1",
    "list_lengths": "send one propensity and one source per item",
    "too_large": "send smaller records",
    "wrong_partition": "set the producer's partitioner to murmur2_random, as docs/kafka.md shows",
    "conflicting_event_id": "give each event an event_id of its own",
}


class _DeadLetter(msgspec.Struct):
    reason: str
    partition: int | None = None  # None: rejected over HTTP, and never in the events topic
    raw: str = ""


_decoder = msgspec.json.Decoder(_DeadLetter)
_array_decoder = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class RejectionSummary:
    """Rejected events of a window of time; reasons by share, from a sample of the newest."""

    window: str
    rejected: int
    total: int  # events, rejected ones included
    reasons: Mapping[str, int]  # in the sample

    @property
    def ratio(self) -> float:
        return self.rejected / self.total if self.total else 0.0


def check_dead_letters(log: EventLog, now_ms: int) -> CheckResult:
    """Compare the rejected events of the last hour, or day, with all events of that time."""
    retained = log.end_offset(DEAD_LETTER, 0) - log.start_offset(DEAD_LETTER, 0)
    if not retained:
        return passed(_NAME, "none")
    summary = summarize_rejections(log, now_ms)
    if not summary.rejected:
        return passed(_NAME, f"none within a {summary.window}, {retained:,} before")
    top = sorted(summary.reasons, key=lambda reason: -summary.reasons[reason])[:_TOP]
    shares = [f"{summary.reasons[reason] / sum(summary.reasons.values()):.0%} {reason}" for reason in top]
    events = f"{summary.rejected:,} of {format_count(summary.total, 'event')} ({summary.ratio:.1%})"
    detail = f"{events} within the last {summary.window}: {', '.join(shares)}"
    if summary.ratio <= _MAX_RATIO:
        return passed(_NAME, detail)
    fixes = [f"{reason}: {_FIXES[reason]}" for reason in top if reason in _FIXES]
    return failed(_NAME, detail, "; ".join([*fixes, f"headrace events read --topic {DEAD_LETTER} shows each one"]))


def summarize_rejections(log: EventLog, now_ms: int) -> RejectionSummary:
    """Count the rejections of the shortest window that has any event."""
    for window_ms, window in _WINDOWS:
        summary = _summarize_window(log, now_ms - window_ms, window)
        if summary.total:
            break
    return summary


def _summarize_window(log: EventLog, start_ms: int, window: str) -> RejectionSummary:
    end = log.end_offset(DEAD_LETTER, 0)
    rejected = end - log.offset_for_time(DEAD_LETTER, 0, start_ms)
    letters = _read_newest(log, DEAD_LETTER, 0, min(rejected, _SAMPLE), end)
    sample = [_decoder.decode(value) for value in letters]
    n_direct = sum(letter.partition is None for letter in sample)  # rejected before they reached the topic
    direct = round(rejected * n_direct / len(sample)) if sample else 0
    received = max(_count_events(log, start_ms), rejected - direct)
    return RejectionSummary(window, rejected, received + direct, Counter(letter.reason for letter in sample))


def _count_events(log: EventLog, start_ms: int) -> int:
    """Events appended since a time; a sample shows how many events a record has."""
    ends = log.end_offsets(EVENTS)
    counts = {partition: end - log.offset_for_time(EVENTS, partition, start_ms) for partition, end in ends.items()}
    largest = sorted(counts, key=lambda partition: -counts[partition])[:_SAMPLED_PARTITIONS]
    values = [
        value
        for partition in largest
        for value in _read_newest(log, EVENTS, partition, min(counts[partition], _SAMPLE), ends[partition])
    ]
    return round(sum(counts.values()) * sum(map(_count_in_record, values)) / len(values)) if values else 0


def _count_in_record(value: bytes) -> int:
    if value.lstrip()[:1] != b"[":
        return 1
    try:
        return max(1, len(_array_decoder.decode(value)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 1


def _read_newest(log: EventLog, topic: str, partition: int, count: int, end: int) -> list[bytes]:
    """Values of the newest records."""
    if not count:
        return []
    return [value for value in log.read(topic, partition, end - count, count).values if value]
