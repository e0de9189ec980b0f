"""Detect fields that producers stop sending."""

from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, deviation_evidence, get_first_offsets
from online_models.guard.robust_stats import RateBaseline


class MissingFieldsDetector:
    """Shares that jump: of events with a field missing, of events whose clock is wrong."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._missing_surface, self._missing_propensities, self._late = (
            RateBaseline(WARMUP_BINS),
            RateBaseline(WARMUP_BINS),
            RateBaseline(WARMUP_BINS),
        )

    def update(self, bins: deque[Bin]) -> list[Finding]:
        current, findings = bins[-1], []
        for name, rate, missing in (
            ("surface", self._missing_surface, current.missing_surface),
            ("propensities", self._missing_propensities, current.missing_propensities),
        ):
            deviation = rate.update(missing, current.impressions)
            if (
                deviation
                and deviation.z > self._z
                and deviation.ratio > 3
                and deviation.observed > max(50, 0.2 * _sum_recent_impressions(bins))
            ):
                evidence = {
                    "reason": f"impressions come without {name}",
                    "field": name,
                    **deviation_evidence(deviation),
                }
                findings.append(Finding("stream", "poison", "missing_fields", name, evidence, get_first_offsets(bins)))
                rate.reset()
        return findings + self._check_clock_skew(bins)

    def _check_clock_skew(self, bins: deque[Bin]) -> list[Finding]:
        """Late by minutes and no more: one clock is ahead of the others. What is loaded in bulk is late by days."""
        current, recent = bins[-1], list(bins)[-3:]
        deviation = self._late.update(current.late - current.very_late, current.rows)
        very_late, rows = sum(bin_.very_late for bin_ in recent), sum(bin_.rows for bin_ in recent)
        if (
            deviation is None
            or deviation.z < self._z
            or deviation.ratio < 5
            or deviation.observed < max(50, 0.05 * rows)
        ):
            return []
        if very_late > 0.25 * deviation.observed:
            return []
        self._late.reset()
        evidence = {
            "reason": "many events are minutes behind others: some clock is wrong",
            "events": rows,
            **deviation_evidence(deviation),
        }
        return [Finding("stream", "poison", "clock_skew", "", evidence, get_first_offsets(bins))]


def _sum_recent_impressions(bins: deque[Bin]) -> int:
    return sum(bin_.impressions for bin_ in list(bins)[-3:])
