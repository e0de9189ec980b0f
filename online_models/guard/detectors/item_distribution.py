"""Detect a change in which items are shown and acted on."""

from collections import deque

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, get_first_offsets
from online_models.guard.robust_stats import MedianBaseline, psi


class ItemDistributionDetector:
    """Which items are acted on: the population stability index of their buckets."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._baseline = MedianBaseline(WARMUP_BINS)

    def update(self, bins: deque[Bin]) -> list[Finding]:
        if len(bins) < WARMUP_BINS:
            return []
        reference, recent = list(bins)[:-5], list(bins)[-5:]
        counts = np.sum([bin_.item_buckets for bin_ in recent], axis=0)
        if counts.sum() < 300:
            return []
        shift = psi(np.sum([bin_.item_buckets for bin_ in reference], axis=0), counts)
        z = self._baseline.update(shift)
        if z is None or z < 2 * self._z or shift < 0.25:
            return []
        self._baseline.reset()
        evidence = {"reason": "people act on other items than before", "psi": round(shift, 3), "z": round(z, 1)}
        return [
            Finding(
                "stream", "drift", "item_distribution", "", evidence, get_first_offsets(bins), change_ts=recent[0].start
            )
        ]
