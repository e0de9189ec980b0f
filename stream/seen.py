"""Which events have been seen: so that a repeat changes nothing."""

import numpy as np

from stream.ids import KeyIndex


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
