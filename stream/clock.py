"""Time is an argument: a clock is handed in, and the watermark follows event time."""

import time
from typing import Protocol

import numpy as np


class Clock(Protocol):
    def now_ms(self) -> int:
        """Epoch milliseconds."""
        ...


class SystemClock:
    """The time of day; it may step backwards, so nothing relies on it for order."""

    def now_ms(self) -> int:
        return int(time.time() * 1000)


class ManualClock:
    """A clock that moves only when told to.

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
            raise ValueError(f"a clock never goes back: seconds must be at least 0, got {seconds}")
        self._now_ms += round(seconds * 1000)


class Watermark:
    """Event time before which nothing more is expected: the latest `ts` seen minus the allowed lateness.

    It never falls. `ts` is None until the first event; keep one per partition, since partitions are read at
    different speeds, and restore it with the position it belongs to.

    >>> watermark = Watermark(lateness=2.0)
    >>> watermark.update(10_000), watermark.update(7_000), watermark.update(11_000)
    (8000, 8000, 9000)
    """

    def __init__(self, lateness: float, ts: int | None = None) -> None:
        if not 0 <= lateness < float("inf"):
            raise ValueError(f"lateness must be a number of seconds from 0, got {lateness}")
        self.ts = ts
        self._lateness_ms = round(lateness * 1000)

    def update(self, ts: int) -> int:
        """Take note of an event (or of the latest of many) and return the watermark after it."""
        candidate = ts - self._lateness_ms
        self.ts = candidate if self.ts is None else max(self.ts, candidate)
        return self.ts

    def update_many(self, ts: np.ndarray) -> np.ndarray:
        """Take note of events one after the other, (n,) int64, and return the watermark after each."""
        watermarks: np.ndarray = np.maximum.accumulate(ts - self._lateness_ms)
        if self.ts is not None:
            watermarks = np.maximum(watermarks, self.ts)
        if watermarks.size:
            self.ts = int(watermarks[-1])
        return watermarks
