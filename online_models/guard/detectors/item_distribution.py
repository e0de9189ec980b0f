"""Detect a change in which items users act on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, FollowDrift, get_first_offsets
from online_models.guard.robust_stats import MedianBaseline, psi
from online_models.guard.settings import GuardRecord


@dataclass(frozen=True, slots=True)
class ItemDistributionSettings(GuardRecord):
    recent_bins: int = 5  # compared with the bins before
    min_actions: int = 300  # in them
    min_psi: float = 0.25
    z_factor: float = 2.0  # times the z threshold: PSI is skewed


class ItemDistributionDetector:
    """Compare the items of the last bins with those before, as 32 buckets of item keys.

    - Null hypothesis: the distribution of actions over item buckets is that of the bins before.
    - Statistic: population stability index (PSI) of the last 5 bins, and its robust z-score against earlier PSIs.
    - Threshold: PSI of 0.25, and 2 z.
    - An alarm means that users act on other items, such as a new catalog or one viral item.
    """

    def __init__(self, z: float, settings: ItemDistributionSettings | None = None) -> None:
        self._settings = settings or ItemDistributionSettings()
        self._z = self._settings.z_factor * z
        self._baseline = MedianBaseline(WARMUP_BINS)

    def reset(self) -> None:
        self._baseline.reset()

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        if len(bins) < WARMUP_BINS:
            return []
        recent_bins = self._settings.recent_bins
        reference, recent = list(bins)[:-recent_bins], list(bins)[-recent_bins:]
        counts = np.sum([bin_.item_buckets for bin_ in recent], axis=0)
        if counts.sum() < self._settings.min_actions:
            return []
        shift = psi(np.sum([bin_.item_buckets for bin_ in reference], axis=0), counts)
        z = self._baseline.update(shift)
        if z is None or z < self._z or shift < self._settings.min_psi:
            return []
        self.reset()
        evidence = {"reason": "users act on other items than before", "psi": round(shift, 3), "z": round(z, 1)}
        first_offsets, change_ts = get_first_offsets(bins), recent[0].start
        return [Finding("drift", "item_distribution", "", evidence, first_offsets, FollowDrift(), change_ts)]
