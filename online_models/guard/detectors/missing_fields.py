"""Detect fields that producers stop sending."""

from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARM, Finding, first_of, told
from online_models.guard.robust_stats import Rate


class Fields:
    """Shares that jump: of events with a field missing, of events whose clock is wrong."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._unplaced, self._unweighed, self._late = Rate(WARM), Rate(WARM), Rate(WARM)

    def see(self, bins: deque[Bin]) -> list[Finding]:
        now, found = bins[-1], []
        for name, rate, missing in (
            ("surface", self._unplaced, now.unplaced),
            ("propensities", self._unweighed, now.unweighed),
        ):
            odd = rate.see(missing, now.shown)
            if odd and odd.z > self._z and odd.ratio > 3 and odd.counted > max(50, 0.2 * _shown(bins)):
                evidence = {"reason": f"impressions come without {name}", "field": name, **told(odd)}
                found.append(Finding("stream", "poison", "missing_fields", name, evidence, first_of(bins)))
                rate.reset()
        return found + self._skew(bins)

    def _skew(self, bins: deque[Bin]) -> list[Finding]:
        """Late by minutes and no more: one clock is ahead of the others. What is loaded in bulk is late by days."""
        now, lately = bins[-1], list(bins)[-3:]
        odd = self._late.see(now.late - now.lost, now.rows)
        lost, rows = sum(one.lost for one in lately), sum(one.rows for one in lately)
        if odd is None or odd.z < self._z or odd.ratio < 5 or odd.counted < max(50, 0.05 * rows):
            return []
        if lost > 0.25 * odd.counted:
            return []
        self._late.reset()
        evidence = {
            "reason": "many events are minutes behind others: some clock is wrong",
            "events": rows,
            **told(odd),
        }
        return [Finding("stream", "poison", "clock_skew", "", evidence, first_of(bins))]


def _shown(bins: deque[Bin]) -> int:
    return sum(one.shown for one in list(bins)[-3:])
