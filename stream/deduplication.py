"""Which events have been seen: so that a repeat changes nothing."""

import numpy as np

from stream.ids import KeyIndex

_OLD_MS = 600_000  # behind the latest event; who only tries again does so sooner
_WARM = 2_000  # events before anything is said
_WINDOW = 1_000  # events over which the shares fade
_ENOUGH = 200  # old repeats among them
_SHARE = 0.2
_QUIET_MS = 3_600_000  # event time between two words about it


class Repeats:
    """Counts the events of one partition, by event time: a repeat sent at once is somebody who was unsure."""

    def __init__(self) -> None:
        self._old = self._all = 0.0
        self._seen, self._told = 0, -_QUIET_MS
        self.latest = 0  # event time, ms

    def see(self, ts: np.ndarray, fresh: np.ndarray) -> float:
        """The share of old repeats among the last events when it is worth a word, 0 otherwise.

        `ts`: (n,) int64 ms; `fresh`: (n,) bool, what is no repeat.
        """
        if ts.size == 0:
            return 0.0
        top = np.maximum(np.maximum.accumulate(ts), self.latest)
        kept = (1 - 1 / _WINDOW) ** ts.size
        weight = (1 - kept) * _WINDOW / ts.size
        self._old = kept * self._old + weight * float((~fresh & (ts < top - _OLD_MS)).sum())
        self._all = kept * self._all + weight * ts.size
        self._seen += ts.size
        self.latest = int(top[-1])
        share = self._old / self._all
        if self._seen < _WARM or self._old < _ENOUGH or share < _SHARE or self.latest < self._told + _QUIET_MS:
            return 0.0
        self._told = self.latest
        return share


class SeenEvents:
    """Knows at least the last n event keys: two generations, the older one dropped when the younger is full."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._young, self._old = KeyIndex(), KeyIndex()

    def first_seen(self, keys: np.ndarray) -> np.ndarray:
        """Which keys, (n,) bool, are new here; they are known from now on."""
        places = np.zeros(keys.size, np.bool_)
        places[np.unique(keys, return_index=True)[1]] = True
        fresh: np.ndarray = places & ~self.knows(keys)
        self._young.number(keys[fresh], len(self._young))
        if len(self._young) >= self._n:
            self._young, self._old = KeyIndex(), self._young
        return fresh

    def knows(self, keys: np.ndarray) -> np.ndarray:
        """Which keys, (n,) bool, have been seen; changes nothing."""
        known: np.ndarray = (self._young.find(keys) >= 0) | (self._old.find(keys) >= 0)
        return known
