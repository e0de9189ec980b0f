"""Detect bursts and lulls of the event rate, by event time."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.guard.bins import NewRows
from online_models.guard.findings import AlarmOnly, Finding, FollowDrift
from online_models.guard.settings import GuardRecord
from stream.clock import MINUTE_MS
from stream.records.batches import EventType

_DAY = 1_440  # minutes
_BITMAP_SIZE = 1 << 13


@dataclass(frozen=True, slots=True)
class BurstSettings(GuardRecord):
    min_ratio: float = 4.0  # to the busiest minute of the baseline
    baseline_minutes: int = 120  # before the minute,
    gap_minutes: int = 3  # less the last ones, in which a burst may have begun
    min_events: int = 300
    min_users: int = 50  # fewer are left to the rate limits per user
    max_type_distance: float = 0.4  # total variation distance of event types
    max_activity_ratio: float = 3.0  # of events per user


@dataclass(frozen=True, slots=True)
class LullSettings(GuardRecord):
    max_ratio: float = 0.1  # of observed to expected events
    span_minutes: int = 5  # that are tested
    delay_minutes: int = 5  # by which event time must have passed them
    baseline_minutes: int = 60  # before the span, and around the same time of the previous day
    min_baseline: int = 20  # minutes
    min_expected: int = 100  # events


@dataclass(slots=True)
class MinuteCounts:
    """Events of one minute of event time."""

    first_offsets: dict[int, int]  # at or before its first event, by partition
    busiest_before: int | None = None  # events of the busiest baseline minute; None: not computed yet
    events: int = 0
    types: np.ndarray = field(default_factory=lambda: np.zeros(len(EventType), np.int64))  # events by type
    user_bitmap: np.ndarray | None = field(default_factory=lambda: np.zeros(_BITMAP_SIZE, np.bool_))
    final_user_count: int = 0  # once the minute is closed

    def add(self, types: np.ndarray, users: np.ndarray) -> None:
        self.events += types.size
        self.types += np.bincount(types, minlength=len(EventType))
        if self.user_bitmap is not None:
            self.user_bitmap[(users & np.uint64(_BITMAP_SIZE - 1)).astype(np.int64)] = True

    @property
    def user_count(self) -> int:
        """Estimated number of users: linear counting (Whang, Vander-Zanden and Taylor 1990)."""
        if self.user_bitmap is None:
            return self.final_user_count
        empty = max(1, _BITMAP_SIZE - int(np.count_nonzero(self.user_bitmap)))
        return round(-_BITMAP_SIZE * math.log(empty / _BITMAP_SIZE))

    def close(self) -> None:
        self.final_user_count, self.user_bitmap = self.user_count, None


class EventRateDetector:
    """Compare each minute with the hours before it, and with the same time of the previous day.

    - Null hypothesis: the minute has at most `min_ratio` times the events of the busiest baseline minute (burst); five
      minutes have at least a tenth of the events that the median baseline minute predicts (lull).
    - Statistic: the ratio of observed to baseline events.
    - Threshold: 4 with 300 events of 50 users (burst); 0.1 with 100 events expected (lull). The previous day must not
      show the same.
    - An alarm means drift if a burst has the usual event types and events per user, and poison otherwise. A lull means
      that most producers are gone.

    Only event time counts, so a log raises the same alarms at any reading speed. If all producers stop, event time
    stops as well, and no lull can be seen here.
    """

    def __init__(self, burst: BurstSettings | None = None, lull: LullSettings | None = None) -> None:
        self._burst, self._lull = burst or BurstSettings(), lull or LullSettings()
        self._max_minutes = _DAY + self._lull.baseline_minutes + 30
        self.reset()

    def reset(self) -> None:
        self._minutes: dict[int, MinuteCounts] = {}
        self._latest_minutes: dict[int, int] = {}  # by partition
        self._first_minute = 2**62
        self._checked_until = 0  # last minute that was tested for a lull

    def update(self, rows: NewRows) -> list[Finding]:
        batch, event_rows = rows.batch, np.flatnonzero(rows.is_event)
        if not event_rows.size:
            return []
        event_minutes, findings = batch.ts[event_rows] // MINUTE_MS, []
        self._advance(event_minutes, rows.partition[event_rows])
        oldest = max(self._latest_minutes.values()) - self._max_minutes
        for minute_id in np.unique(event_minutes).tolist():
            minute_rows = event_rows[event_minutes == minute_id]
            if minute_id > oldest:
                self._get_minute(minute_id, rows.next_offsets).add(
                    batch.type[minute_rows], batch.queries.user[minute_rows]
                )
                findings += self._check_burst(minute_id)
        # After a restart partitions are not read evenly: at least half of them must have come this far.
        latest_minutes = sorted(self._latest_minutes.values())
        end = latest_minutes[(len(latest_minutes) - 1) // 2] - self._lull.delay_minutes
        if end > self._checked_until:
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
        for minute in self._minutes_between(max(self._checked_until, end - self._max_minutes), end):
            if minute.user_bitmap is not None:
                minute.close()
        while (first := next(iter(self._minutes))) <= oldest:
            del self._minutes[first]

    def _minutes_between(self, start: int, end: int) -> list[MinuteCounts]:
        return [self._minutes[minute_id] for minute_id in range(start, end) if minute_id in self._minutes]

    def _burst_baseline(self, minute_id: int) -> list[MinuteCounts]:
        return self._minutes_between(minute_id - self._burst.baseline_minutes, minute_id - self._burst.gap_minutes)

    def _check_burst(self, minute_id: int) -> list[Finding]:
        current, min_ratio = self._minutes[minute_id], self._burst.min_ratio
        if current.events < self._burst.min_events:
            return []
        if current.busiest_before is None or current.events > min_ratio * current.busiest_before:
            # Once more: meanwhile other partitions may have come this far.
            current.busiest_before = self._find_busiest_before(minute_id)
        if not current.busiest_before or current.events <= min_ratio * current.busiest_before:
            return []
        if current.user_count < self._burst.min_users:
            return []
        return [self._make_burst_finding(current, self._burst_baseline(minute_id))]

    def _find_busiest_before(self, minute_id: int) -> int:
        """Events of the busiest minute before and around this time yesterday; 0: no baseline yet."""
        recent, around = self._burst_baseline(minute_id), self._lull.baseline_minutes
        yesterday = self._minutes_between(minute_id - _DAY - around, minute_id - _DAY + around)
        return max(minute.events for minute in recent + yesterday) if len(recent) >= self._lull.min_baseline else 0

    def _make_burst_finding(self, current: MinuteCounts, baseline: list[MinuteCounts]) -> Finding:
        """Report a crowd as drift if event types and events per user are those of the baseline."""
        type_counts = np.sum([minute.types for minute in baseline], axis=0)
        type_distance = float(np.abs(current.types / current.events - type_counts / type_counts.sum()).sum() / 2)
        events_per_user = current.events / max(1, current.user_count)
        usual_events_per_user = np.median([minute.events / max(1, minute.user_count) for minute in baseline])
        is_crowd = (
            type_distance < self._burst.max_type_distance
            and events_per_user / float(usual_events_per_user) < self._burst.max_activity_ratio
        )
        behavior = "and users behave as before" if is_crowd else "and users behave differently"
        evidence = {
            "reason": f"far more events arrive than before, {behavior}",
            "events": current.events,
            "busiest_before": current.busiest_before,
            "users": current.user_count,
            "type_distance": round(type_distance, 2),
            "events_per_user": round(events_per_user, 1),
        }
        if is_crowd:
            return Finding("drift", "event_rate", "burst", evidence, current.first_offsets, FollowDrift())
        return Finding("poison", "event_rate", "burst", evidence, current.first_offsets, AlarmOnly())

    def _check_lull(self, end: int) -> list[Finding]:
        max_ratio, span = self._lull.max_ratio, self._lull.span_minutes
        observed, expected = self._compare_to_baseline(end)
        recent = self._minutes_between(end - span, end)
        if expected < self._lull.min_expected or observed > max_ratio * expected or len(recent) < span // 2:
            return []
        observed_yesterday, expected_yesterday = self._compare_to_baseline(end - _DAY)
        if expected_yesterday and observed_yesterday < 3 * max_ratio * expected_yesterday:
            return []
        reason = "hardly any events arrive, of any type: most producers are gone"
        evidence = {"reason": reason, "events": observed, "expected": round(expected)}
        return [Finding("poison", "event_rate", "lull", evidence, recent[0].first_offsets, AlarmOnly())]

    def _compare_to_baseline(self, end: int) -> tuple[int, float]:
        """Observed and expected events of the span before `end`; 0 expected: no baseline yet."""
        begin = end - self._lull.span_minutes
        baseline = range(max(self._first_minute, begin - self._lull.baseline_minutes), begin)
        counts = sorted(self._minutes[m].events if m in self._minutes else 0 for m in baseline)
        observed = sum(minute.events for minute in self._minutes_between(begin, end))
        if len(counts) < self._lull.min_baseline:
            return observed, 0.0
        return observed, self._lull.span_minutes * float(counts[len(counts) // 2])
