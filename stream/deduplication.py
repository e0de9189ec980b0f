"""Which events have been seen: so that a repeat changes nothing."""

import numpy as np

from stream.ids import KeyIndex

_STALE_MS = 600_000  # behind the latest event; who only tries again does so sooner
_WARMUP_EVENTS = 2_000  # events before anything is said
_WINDOW = 1_000  # events over which the shares fade
_MIN_STALE = 200  # old repeats among them
_MIN_SHARE = 0.2
_ALARM_INTERVAL_MS = 3_600_000  # event time between two words about it


class StaleDuplicateDetector:
    """Counts the events of one partition, by event time: a repeat sent at once is somebody who was unsure."""

    def __init__(self) -> None:
        self._stale_count = self._total_count = 0.0
        self._n_events, self._last_alarm_ts = 0, -_ALARM_INTERVAL_MS
        self.latest_ts = 0  # event time, ms

    def update(self, ts: np.ndarray, is_new: np.ndarray) -> float:
        """The share of old repeats among the last events when it is worth a word, 0 otherwise.

        `ts`: (n,) int64 ms; `fresh`: (n,) bool, what is no repeat.
        """
        if ts.size == 0:
            return 0.0
        running_max = np.maximum(np.maximum.accumulate(ts), self.latest_ts)
        decay = (1 - 1 / _WINDOW) ** ts.size
        weight = (1 - decay) * _WINDOW / ts.size
        self._stale_count = decay * self._stale_count + weight * float((~is_new & (ts < running_max - _STALE_MS)).sum())
        self._total_count = decay * self._total_count + weight * ts.size
        self._n_events += ts.size
        self.latest_ts = int(running_max[-1])
        share = self._stale_count / self._total_count
        if (
            self._n_events < _WARMUP_EVENTS
            or self._stale_count < _MIN_STALE
            or share < _MIN_SHARE
            or self.latest_ts < self._last_alarm_ts + _ALARM_INTERVAL_MS
        ):
            return 0.0
        self._last_alarm_ts = self.latest_ts
        return share


class Deduplicator:
    """Knows at least the last n event keys: two generations, the older one dropped when the younger is full."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._current, self._previous = KeyIndex(), KeyIndex()

    def check_and_add(self, keys: np.ndarray) -> np.ndarray:
        """Which keys, (n,) bool, are new here; they are known from now on."""
        is_first = np.zeros(keys.size, np.bool_)
        is_first[np.unique(keys, return_index=True)[1]] = True
        is_new: np.ndarray = is_first & ~self.contains(keys)
        self._current.lookup_or_insert(keys[is_new], len(self._current))
        if len(self._current) >= self._n:
            self._current, self._previous = KeyIndex(), self._current
        return is_new

    def contains(self, keys: np.ndarray) -> np.ndarray:
        """Which keys, (n,) bool, have been seen; changes nothing."""
        is_known: np.ndarray = (self._current.lookup(keys) >= 0) | (self._previous.lookup(keys) >= 0)
        return is_known
