"""Skip duplicate events, and detect the replay of an old part of the log."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream.clock import HOUR_MS, MINUTE_MS
from stream.ids import KeyIndex


@dataclass(frozen=True, slots=True)
class StaleDuplicateSettings:
    """Conditions under which duplicates of old events raise an alarm."""

    min_age_ms: int = 10 * MINUTE_MS  # behind the latest event; a producer that retries does so sooner
    warmup_events: int = 2_000  # events before the first alarm
    window_events: int = 1_000  # mean lifetime of an event in the decayed counts
    min_count: float = 200.0  # stale duplicates among the decayed counts
    min_share: float = 0.2  # stale duplicates / events
    alarm_interval_ms: int = HOUR_MS  # event time between two alarms


class StaleDuplicateDetector:
    """Detect that a producer sends an old part of the log again.

    Duplicates of recent events are normal retries. It measures age by event time, for one partition.
    """

    def __init__(self, settings: StaleDuplicateSettings | None = None) -> None:
        self._settings = settings or StaleDuplicateSettings()
        self._stale_count = self._total_count = 0.0
        self._n_events, self._last_alarm_ts = 0, -self._settings.alarm_interval_ms
        self.latest_ts = 0  # event time, ms

    def update(self, ts: np.ndarray, is_new: np.ndarray) -> float:
        """Share of stale duplicates among recent events when it is due for an alarm, else 0.

        `ts`: (n,) int64 ms; `is_new`: (n,) bool, False for duplicates.
        """
        if ts.size == 0:
            return 0.0
        settings, running_max = self._settings, np.maximum(np.maximum.accumulate(ts), self.latest_ts)
        is_stale = ~is_new & (ts < running_max - settings.min_age_ms)
        decay = (1 - 1 / settings.window_events) ** ts.size
        weight = (1 - decay) * settings.window_events / ts.size
        self._stale_count = decay * self._stale_count + weight * float(is_stale.sum())
        self._total_count = decay * self._total_count + weight * ts.size
        self._n_events += ts.size
        self.latest_ts = int(running_max[-1])
        share = self._stale_count / self._total_count
        if not self._is_alarm_due(share):
            return 0.0
        self._last_alarm_ts = self.latest_ts
        return share

    def _is_alarm_due(self, share: float) -> bool:
        settings = self._settings
        return (
            self._n_events >= settings.warmup_events
            and self._stale_count >= settings.min_count
            and share >= settings.min_share
            and self.latest_ts >= self._last_alarm_ts + settings.alarm_interval_ms
        )


class DuplicateCheck(NamedTuple):
    """Result for each event; one that is neither new nor a conflict is an identical repeat."""

    is_new: np.ndarray  # (n,) bool
    is_conflict: np.ndarray  # (n,) bool, the id is known with another content


class Deduplicator:
    """Remember at least the last n event keys, each with a hash of its content.

    It keeps two generations; when the newer one is full, the older one is dropped.
    """

    def __init__(self, n: int) -> None:
        self._n = n
        self._current, self._previous = KeyIndex(), KeyIndex()

    def check_and_add(self, keys: np.ndarray, contents: np.ndarray) -> DuplicateCheck:
        """Find the keys, (n,) uint64, that are new, and remember them.

        `contents`: (n,) int32, hashes of at least 0; see `stream.records.content_hashes`.
        """
        previous = self._previous.lookup(keys)
        current = self._current.setdefault(keys, np.where(previous >= 0, previous, contents))
        if len(self._current) >= self._n:
            self._current, self._previous = KeyIndex(), self._current
        return _compare(np.where(previous >= 0, previous, current), contents)

    def check(self, keys: np.ndarray, contents: np.ndarray) -> DuplicateCheck:
        """Return the result of `check_and_add`; changes nothing."""
        previous, current = self._previous.lookup(keys), self._current.lookup(keys)
        known = np.where(previous >= 0, previous, current)
        first = KeyIndex(keys.size).setdefault(keys, np.where(known >= 0, known, contents))
        return _compare(np.where(known >= 0, known, first), contents)


def _compare(known: np.ndarray, contents: np.ndarray) -> DuplicateCheck:
    """Compare contents with the known ones, -1 for an unknown key."""
    return DuplicateCheck(known < 0, (known >= 0) & (known != contents))
