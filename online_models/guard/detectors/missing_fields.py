"""Detect fields that producers stop sending, and producers with a wrong clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, AlarmOnly, Finding, deviation_evidence, get_first_offsets
from online_models.guard.robust_stats import RateBaseline
from online_models.guard.settings import GuardRecord

_RECENT_BINS = 3  # of a `RateBaseline`


@dataclass(frozen=True, slots=True)
class MissingFieldsSettings(GuardRecord):
    min_count: int = 50  # impressions without the field, or late events
    min_ratio: float = 3.0  # of observed to expected impressions without the field
    min_missing_share: float = 0.2  # of recent impressions
    min_late_ratio: float = 5.0  # of observed to expected late events
    min_late_share: float = 0.05  # of recent events
    max_very_late_share: float = 0.25  # relative to the late events, above which they come from a bulk load


class MissingFieldsDetector:
    """Test the shares of impressions without a field, and the share of late events.

    - Null hypothesis: the share is that of the baseline.
    - Statistic: `RateBaseline` deviation over 3 bins.
    - Threshold: z, 50 or more events, three times the expected count and a fifth of impressions (missing field), or
      five times the expected count and a twentieth of events (late).
    - An alarm means that a producer has stopped to send the field, or that some clock is wrong.
    """

    def __init__(self, z: float, settings: MissingFieldsSettings | None = None) -> None:
        self._z = z
        self._settings = settings or MissingFieldsSettings()
        self.reset()

    def reset(self) -> None:
        self._missing_surface, self._missing_propensities = RateBaseline(WARMUP_BINS), RateBaseline(WARMUP_BINS)
        self._late = RateBaseline(WARMUP_BINS)

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        current = bins[-1]
        findings = self._check_missing("surface", self._missing_surface, current.missing_surface, bins)
        findings += self._check_missing("propensities", self._missing_propensities, current.missing_propensities, bins)
        return findings + self._check_clock_skew(bins)

    def _check_missing(self, name: str, rate: RateBaseline, missing: int, bins: Sequence[Bin]) -> list[Finding]:
        deviation = rate.update(missing, bins[-1].impressions)
        impressions = sum(bin_.impressions for bin_ in list(bins)[-_RECENT_BINS:])
        if deviation is None or deviation.z <= self._z or deviation.ratio <= self._settings.min_ratio:
            return []
        if deviation.observed <= max(self._settings.min_count, self._settings.min_missing_share * impressions):
            return []
        rate.reset()
        evidence = {"reason": f"impressions arrive without {name}", "field": name, **deviation_evidence(deviation)}
        return [Finding("poison", "missing_fields", name, evidence, get_first_offsets(bins), AlarmOnly())]

    def _check_clock_skew(self, bins: Sequence[Bin]) -> list[Finding]:
        """Test for events late by minutes: one clock is ahead. Bulk loads are late by days."""
        current, recent = bins[-1], list(bins)[-_RECENT_BINS:]
        deviation = self._late.update(current.late - current.very_late, current.rows)
        very_late, rows = sum(bin_.very_late for bin_ in recent), sum(bin_.rows for bin_ in recent)
        if deviation is None or deviation.z < self._z or deviation.ratio < self._settings.min_late_ratio:
            return []
        if deviation.observed < max(self._settings.min_count, self._settings.min_late_share * rows):
            return []
        if very_late > self._settings.max_very_late_share * deviation.observed:
            return []
        self._late.reset()
        evidence = {
            "reason": "many events are minutes behind others: some clock is wrong",
            "events": rows,
            **deviation_evidence(deviation),
        }
        return [Finding("poison", "clock_skew", "", evidence, get_first_offsets(bins), AlarmOnly())]
