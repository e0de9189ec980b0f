"""Detect a change in which items are shown and acted on."""

from collections import deque

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, first_of
from online_models.guard.robust_stats import Level, psi


class Mix:
    """Which items are acted on: the population stability index of their buckets."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._usual = Level(WARM)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        if len(bins) < WARM:
            return []
        before, lately = list(bins)[:-5], list(bins)[-5:]
        now = np.sum([one.buckets for one in lately], axis=0)
        if now.sum() < 300:
            return []
        shift = psi(np.sum([one.buckets for one in before], axis=0), now)
        z = self._usual.see(shift)
        if z is None or z < 2 * self._z or shift < 0.25:
            return []
        self._usual.reset()
        evidence = {"reason": "people act on other items than before", "psi": round(shift, 3), "z": round(z, 1)}
        return [Finding("stream", "drift", "items", "", evidence, first_of(bins), began=lately[0].start)]
