"""Counts of items that decay exponentially."""

import numpy as np

from replay.evaluation.baselines.item_index import ItemIndex, grow

_RESCALE_HALF_LIVES = 256.0  # half-lives after which decayed counts are rescaled


class DecayedCounts:
    """One count per known item that halves every `half_life` seconds; infinity means no decay."""

    def __init__(self, item_index: ItemIndex, half_life: float = np.inf) -> None:
        self._item_index = item_index
        self._half_life_ms = half_life * 1000
        # Relative to `_origin`: later events get a larger weight, so that earlier counts need no update.
        self._values = np.zeros(1024)
        self._origin: int | None = None

    def add(self, keys: np.ndarray, ts: np.ndarray) -> None:
        """Count known items, (n,) keys, at their times in ms."""
        if keys.size == 0:
            return
        self._values = grow(self._values, len(self._item_index))
        self._origin = int(ts[0]) if self._origin is None else self._origin
        if self._exponent(int(ts.max())) > _RESCALE_HALF_LIVES:
            self._values *= np.exp2(-self._exponent(int(ts.max())))
            self._origin = int(ts.max())
        np.add.at(self._values, self._item_index.lookup(keys), np.exp2((ts - self._origin) / self._half_life_ms))

    def raw(self) -> np.ndarray:
        """Counts of all known items, (len(items),) float64, comparable with each other only."""
        self._values = grow(self._values, len(self._item_index))
        return self._values[: len(self._item_index)]

    def decayed_at(self, ts: int) -> np.ndarray:
        """Counts of all known items decayed to `ts`, (len(items),) float64."""
        decayed: np.ndarray = self.raw() * np.exp2(-self._exponent(ts))
        return decayed

    def _exponent(self, ts: int) -> float:
        return 0.0 if self._origin is None else max(-_RESCALE_HALF_LIVES, (ts - self._origin) / self._half_life_ms)
