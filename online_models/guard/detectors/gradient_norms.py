"""Detect gradients and parameter updates that are far too large."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, AlarmOnly, BlockServing, Finding, get_first_offsets
from online_models.guard.robust_stats import IQRBaseline
from online_models.guard.settings import GuardRecord
from stream.clock import MINUTE_MS

_REASONS = {
    "gradient_norm": "gradients are far larger than before",
    "update_norm": "parameter updates are far larger than before",
}
NormKey = tuple[str, str]  # detector, and component of the model


@dataclass(frozen=True, slots=True)
class GradientNormSettings(GuardRecord):
    min_ratio: float = 2.5  # to the baseline's median
    min_streak: int = 3  # bins
    max_block_ms: int = 30 * MINUTE_MS  # event time, after which the larger norms become the baseline
    min_skipped: int = 10  # updates
    min_skipped_share: float = 0.1  # of the updates


class GradientNormDetector:
    """Compare the root mean square norm of each component with earlier bins.

    - Null hypothesis: the log of the norm is distributed as in the baseline.
    - Statistic: robust z-score by quartiles, and the ratio to the median.
    - Threshold: z and a ratio of 2.5, both exceeded for 3 bins.
    - An alarm means that training diverges, or that it is fed garbage.

    The norm is that of a bin's updates, however many a step makes: long steps that catch up look like short ones.
    """

    def __init__(self, z: float, settings: GradientNormSettings | None = None) -> None:
        self._z = z
        self._settings = settings or GradientNormSettings()
        self.reset()

    def reset(self) -> None:
        self._baselines: dict[NormKey, IQRBaseline] = {}
        self._streaks: dict[NormKey, int] = {}  # consecutive outlier bins
        self._active: NormKey | None = None
        self._active_ts = 0  # event time, ms

    @property
    def block_reason(self) -> str:
        """Reason why the current state may not be served, "" if it may."""
        return f"{_REASONS[self._active[0]]}: {self._active[1]}" if self._active else ""

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        current = bins[-1]
        findings = self._check_skipped(bins)
        if self._active and current.end > self._active_ts + self._settings.max_block_ms:
            self._baselines[self._active].reset()
            self._deactivate(self._active)
        for key, (square_sum, updates) in current.squared_norms.items():
            ratio, z = self._compare(key, 0.5 * math.log(square_sum / updates + 1e-30))
            is_outlier = z > self._z and ratio > self._settings.min_ratio
            self._streaks[key] = self._streaks.get(key, 0) + 1 if is_outlier else 0
            if key == self._active and ratio < self._settings.min_ratio / 2:
                self._deactivate(key)
            elif self._streaks[key] >= self._settings.min_streak and self._active is None:
                findings.append(self._activate(key, ratio, z, bins))
        return findings

    def _compare(self, key: NormKey, log_norm: float) -> tuple[float, float]:
        """Ratio to the baseline's median, and z-score; 1 and 0 while the baseline is too short."""
        comparison = self._baselines.setdefault(key, IQRBaseline(WARMUP_BINS)).update(log_norm)
        return (1.0, 0.0) if comparison is None else (math.exp(log_norm - comparison[0]), comparison[1])

    def _deactivate(self, key: NormKey) -> None:
        self._active, self._streaks[key] = None, 0

    def _activate(self, key: NormKey, ratio: float, z: float, bins: Sequence[Bin]) -> Finding:
        self._active, self._active_ts = key, bins[-1].end
        detector, component = key
        evidence = {"reason": _REASONS[detector], "component": component, "ratio": round(ratio, 1), "z": round(z, 1)}
        first_offsets = get_first_offsets(bins, self._settings.min_streak)
        return Finding("poison", detector, component, evidence, first_offsets, BlockServing())

    def _check_skipped(self, bins: Sequence[Bin]) -> list[Finding]:
        recent = list(bins)[-self._settings.min_streak :]
        skipped, applied = sum(bin_.skipped_updates for bin_ in recent), sum(bin_.updates for bin_ in recent)
        if skipped < max(self._settings.min_skipped, self._settings.min_skipped_share * (skipped + applied)):
            return []
        reason = "many updates are skipped because a gradient is not finite"
        evidence = {"reason": reason, "skipped": skipped, "applied": applied}
        return [Finding("poison", "non_finite", "", evidence, get_first_offsets(bins), AlarmOnly())]
