"""Clocks, which callers pass as arguments, and the watermark of event time."""

import time
from typing import Protocol

import numpy as np

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


class Clock(Protocol):
    """Source of the current time."""

    def now_ms(self) -> int:
        """Epoch milliseconds."""
        ...


class SystemClock:
    """Time of day; it can step backwards, so nothing relies on it for order."""

    def now_ms(self) -> int:
        return int(time.time() * 1000)


MAX_STEP_BACK_MS = MINUTE_MS  # by which append times wait for a clock that was set back


def elapsed_seconds() -> float:
    """Seconds since the machine started, with those that it slept.

    Setting the clock does not change them.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def next_append_time(last_ms: int, now_ms: int) -> int:
    """Time of an append after one at `last_ms`.

    It does not fall when the clock is corrected by seconds. After a clock that was ahead by days, it falls once:
    otherwise every later event would count as days old.

    >>> next_append_time(60_000, 59_000), next_append_time(60_000, 61_000), next_append_time(86_400_000, 60_000)
    (60000, 61000, 60000)
    """
    return now_ms if last_ms - now_ms > MAX_STEP_BACK_MS else max(last_ms, now_ms)


class Interval:
    """Interval by a clock that can be set back, which starts the interval again.

    >>> clock = ManualClock(100_000)
    >>> interval = Interval(60, clock)
    >>> clock.advance(60)
    >>> interval.is_due(), interval.is_due()
    (True, False)
    """

    def __init__(self, seconds: float, clock: "Clock") -> None:
        self._interval_ms = seconds * 1000
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Start the interval now."""
        self._started_at = self._clock.now_ms()

    def is_due(self) -> bool:
        """Return True once per interval."""
        now = self._clock.now_ms()
        self._started_at = min(self._started_at, now)
        is_due = now - self._started_at >= self._interval_ms
        if is_due:
            self._started_at = now
        return is_due


class ManualClock:
    """Clock that moves only when a test advances it.

    >>> clock = ManualClock(5_000)
    >>> clock.advance(1.5)
    >>> clock.now_ms()
    6500
    """

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, seconds: float) -> None:
        if seconds < 0:
            raise ValueError(f"seconds must be at least 0, because a clock never goes back; got {seconds}")
        self._now_ms += round(seconds * 1000)


class Watermark:
    """Event time before which no more events are expected.

    It is the latest `ts` minus the allowed lateness, and `update` never lets it fall; `ts` is None until the first
    event. Keep one
    per partition, because partitions are read at different speeds, and restore it with the position it belongs to.

    >>> watermark = Watermark(lateness=2.0)
    >>> watermark.update(10_000), watermark.update(7_000), watermark.update(11_000)
    (8000, 8000, 9000)
    """

    def __init__(self, lateness: float, ts: int | None = None) -> None:
        if not 0 <= lateness < float("inf"):
            raise ValueError(f"lateness must be a finite number of seconds of at least 0, got {lateness}")
        self.ts = ts
        self._lateness_ms = round(lateness * 1000)

    def correct(self, time: int, max_lead_ms: int) -> None:
        """Return to the time of a record, ms, if the watermark is too far ahead of it.

        Events that were accepted while the clock was ahead have moved it there.
        """
        if self.ts is not None and self.ts > time + max_lead_ms:
            self.ts = time - self._lateness_ms

    def copy(self) -> "Watermark":
        """Watermark with the same time that advances independently."""
        return Watermark(self._lateness_ms / 1000, self.ts)

    def update(self, ts: int) -> int:
        """Advance to an event, or to the latest of several, and return the watermark after it."""
        candidate = ts - self._lateness_ms
        self.ts = candidate if self.ts is None else max(self.ts, candidate)
        return self.ts

    def update_many(self, ts: np.ndarray) -> np.ndarray:
        """Advance to events in order, (n,) int64 ms, and return the watermark after each."""
        watermarks: np.ndarray = np.maximum.accumulate(ts - self._lateness_ms)
        if self.ts is not None:
            watermarks = np.maximum(watermarks, self.ts)
        if watermarks.size:
            self.ts = int(watermarks[-1])
        return watermarks
