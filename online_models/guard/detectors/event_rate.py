"""How many events come in a minute of event time: far more than ever, or hardly any."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.guard.findings import Finding
from online_models.training.step import TrainingBatch
from stream.records.batches import EventType, Kind

_MINUTE_MS, _DAY = 60_000, 1_440  # minutes
_MAX_MINUTES = _DAY + 90  # minutes
_BURST_RATIO = 4.0  # times the busiest minute of
_LOOKBACK, _GAP = 120, 3  # the two hours before, less the last minutes, in which it may have begun
_MIN_EVENTS, _MIN_USERS = 300, 50  # events, and people they are of, below which a minute is no burst
_LULL_RATIO = 0.1  # of what is usual
_LULL_SPAN, _LULL_DELAY = 5, 5  # minutes that are judged, once so many more have passed
_BASELINE_SPAN, _MIN_BASELINE = 60, 20  # minutes beside which they are judged, and how many of them must be known
_MIN_EXPECTED = 100  # events to be expected in them
_MAX_TYPE_DISTANCE = 0.4  # distance between shares of types, half the sum of what differs
_MAX_ACTIVITY_RATIO = 3.0  # times as many events a person
_BITMAP_SIZE = 1 << 13


@dataclass(slots=True)
class MinuteCounts:
    """What came in a minute of event time."""

    first_offsets: dict[int, int]  # offset of its first event at the latest, by partition
    busiest_before: int | None = None  # of a minute before it, once that was asked for; None: not asked yet
    events: int = 0
    types: np.ndarray = field(default_factory=lambda: np.zeros(len(EventType), np.int64))  # events by type
    user_bitmap: np.ndarray | None = field(default_factory=lambda: np.zeros(_BITMAP_SIZE, np.bool_))
    final_user_count: int = 0  # people, once nothing more is expected

    def add(self, types: np.ndarray, users: np.ndarray) -> None:
        self.events += types.size
        self.types += np.bincount(types, minlength=len(EventType))
        if self.user_bitmap is not None:
            self.user_bitmap[(users & np.uint64(_BITMAP_SIZE - 1)).astype(np.int64)] = True

    @property
    def user_count(self) -> int:
        """How many there were, about: linear counting (Whang, Vander-Zanden and Taylor 1990)."""
        if self.user_bitmap is None:
            return self.final_user_count
        empty = max(1, _BITMAP_SIZE - int(np.count_nonzero(self.user_bitmap)))
        return round(-_BITMAP_SIZE * math.log(empty / _BITMAP_SIZE))

    def close(self) -> None:
        self.final_user_count, self.user_bitmap = self.user_count, None


class EventRateDetector:
    """Judges by event time alone: however fast a log is read, it raises what it would have raised live.

    Each minute stands beside the hours before it, and what looks odd beside the same time of the day before, since a
    shop that opens at eight opens every day. A silence of everything moves no event time, and cannot be seen here.
    """

    def __init__(self) -> None:
        self._minutes: dict[int, MinuteCounts] = {}
        self._latest_minutes: dict[int, int] = {}  # latest minute, by partition
        self._first_minute = 2**62  # the first minute that is known
        self._checked_until = 0  # the last minute up to which a lull was looked for

    def update(self, training_batch: TrainingBatch, is_new: np.ndarray, next_offsets: dict[int, int]) -> list[Finding]:
        """Add the fresh events; `seen`: next offset of the events before them, by partition."""
        batch = training_batch.batch
        rows = np.flatnonzero(is_new & ((batch.kind == Kind.shown) | (batch.kind == Kind.action)))
        if not rows.size:
            return []
        event_minutes, findings = batch.ts[rows] // _MINUTE_MS, []
        self._advance(event_minutes, training_batch.partition[rows])
        oldest = max(self._latest_minutes.values()) - _MAX_MINUTES
        for minute_id in np.unique(event_minutes).tolist():
            minute_rows = rows[event_minutes == minute_id]
            if minute_id > oldest:
                self._get_minute(minute_id, next_offsets).add(batch.type[minute_rows], batch.queries.user[minute_rows])
                findings += self._check_burst(minute_id)
        # Partitions are not read evenly after a restart: half of them have to have come so far.
        latest_minutes = sorted(self._latest_minutes.values())
        if (end := latest_minutes[(len(latest_minutes) - 1) // 2] - _LULL_DELAY) > self._checked_until:
            findings += self._check_lull(end)
            self._close_minutes(end, oldest)
            self._checked_until = end
        return findings

    def _advance(self, event_minutes: np.ndarray, partition: np.ndarray) -> None:
        for p in np.unique(partition).tolist():
            self._latest_minutes[p] = max(self._latest_minutes.get(p, 0), int(event_minutes[partition == p].max()))
        self._first_minute = min(self._first_minute, int(event_minutes.min()))

    def _get_minute(self, minute_id: int, next_offsets: dict[int, int]) -> MinuteCounts:
        if minute_id not in self._minutes:
            self._minutes[minute_id] = MinuteCounts(dict(next_offsets))
        return self._minutes[minute_id]

    def _close_minutes(self, end: int, oldest: int) -> None:
        for minute in self._minutes_between(max(self._checked_until, end - _MAX_MINUTES), end):
            if minute.user_bitmap is not None:
                minute.close()
        while (first := next(iter(self._minutes))) <= oldest:
            del self._minutes[first]

    def _minutes_between(self, start: int, end: int) -> list[MinuteCounts]:
        return [self._minutes[minute_id] for minute_id in range(start, end) if minute_id in self._minutes]

    def _check_burst(self, minute_id: int) -> list[Finding]:
        current = self._minutes[minute_id]
        if current.events < _MIN_EVENTS:
            return []
        if current.busiest_before is None or current.events > _BURST_RATIO * current.busiest_before:
            current.busiest_before = self._find_busiest_before(
                minute_id
            )  # once more: other partitions may have come so far meanwhile
        if (
            not current.busiest_before
            or current.events <= _BURST_RATIO * current.busiest_before
            or current.user_count < _MIN_USERS
        ):
            return []
        return [_make_burst_finding(current, self._minutes_between(minute_id - _LOOKBACK, minute_id - _GAP))]

    def _find_busiest_before(self, minute_id: int) -> int:
        """Events of the busiest minute of the hours before, and of about this time yesterday; 0: too little known."""
        recent = self._minutes_between(minute_id - _LOOKBACK, minute_id - _GAP)
        yesterday = self._minutes_between(minute_id - _DAY - _BASELINE_SPAN, minute_id - _DAY + _BASELINE_SPAN)
        return max(minute.events for minute in recent + yesterday) if len(recent) >= _MIN_BASELINE else 0

    def _check_lull(self, end: int) -> list[Finding]:
        observed, expected = self._compare_to_baseline(end)
        recent = self._minutes_between(end - _LULL_SPAN, end)
        if expected < _MIN_EXPECTED or observed > _LULL_RATIO * expected or len(recent) < _LULL_SPAN // 2:
            return []
        observed_yesterday, expected_yesterday = self._compare_to_baseline(end - _DAY)
        if expected_yesterday and observed_yesterday < 3 * _LULL_RATIO * expected_yesterday:
            return []
        reason = "hardly anything comes any more, of any kind: most of what sends events is gone"
        evidence = {"reason": reason, "events": observed, "expected": round(expected)}
        return [Finding("stream", "poison", "event_rate", "lull", evidence, recent[0].first_offsets)]

    def _compare_to_baseline(self, end: int) -> tuple[int, float]:
        """Events of the minutes before, and how many the hour before those leads one to expect; 0: too little known."""
        baseline_minutes = range(max(self._first_minute, end - _LULL_SPAN - _BASELINE_SPAN), end - _LULL_SPAN)
        event_counts = sorted(
            self._minutes[minute_id].events if minute_id in self._minutes else 0 for minute_id in baseline_minutes
        )
        observed = sum(minute.events for minute in self._minutes_between(end - _LULL_SPAN, end))
        return observed, _LULL_SPAN * float(event_counts[len(event_counts) // 2]) if len(
            event_counts
        ) >= _MIN_BASELINE else 0.0


def _make_burst_finding(current: MinuteCounts, reference: list[MinuteCounts]) -> Finding:
    """Whether those who come do what people do: the same kinds of things, as much each."""
    type_counts = np.sum([minute.types for minute in reference], axis=0)
    type_distance = float(np.abs(current.types / current.events - type_counts / type_counts.sum()).sum() / 2)
    events_per_user = current.events / max(1, current.user_count)
    activity_ratio = events_per_user / float(
        np.median([minute.events / max(1, minute.user_count) for minute in reference])
    )
    is_typical = type_distance < _MAX_TYPE_DISTANCE and activity_ratio < _MAX_ACTIVITY_RATIO
    behavior = "and do what people do" if is_typical else "and do not do what people do here"
    evidence = {
        "reason": f"far more events come than ever, {behavior}",
        "events": current.events,
        "busiest_before": current.busiest_before,
        "users": current.user_count,
        "type_distance": round(type_distance, 2),
        "events_per_user": round(events_per_user, 1),
    }
    return Finding(
        "stream", "drift" if is_typical else "poison", "event_rate", "burst", evidence, current.first_offsets
    )
