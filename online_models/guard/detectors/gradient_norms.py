"""How long gradients are and how far updates move what is learnt: a learner that breaks itself, or is fed garbage."""

import math
from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, get_first_offsets
from online_models.guard.robust_stats import IQRBaseline

_MIN_RATIO = 2.5  # the usual, from which it is worth telling
_MIN_STREAK = 3  # bins
_NEW_BASELINE_MS = 1_800_000  # event time after which what is, is the new usual
_MAX_SKIPPED_SHARE = 0.1  # of the updates
_MIN_SKIPPED = 10  # updates left out that are no burst
_REASONS = {
    "gradient_norm": "gradients are far longer than they ever were",
    "update_norm": "updates move what is learnt much farther than they ever did",
}
NormKey = tuple[str, str]  # detector, and part of the learner


class GradientNormDetector:
    """Compares the root mean squares of bins, as logs; while one stands out, nothing that is learnt is served.

    Of all updates of a bin, however many a step takes: catching up in long steps looks like going on in short ones.
    """

    def __init__(self, z: float) -> None:
        self._z = z
        self.reset()

    def reset(self) -> None:
        self._baselines: dict[NormKey, IQRBaseline] = {}
        self._streak: dict[NormKey, int] = {}  # bins in a row that stood out
        self._active: NormKey | None = None
        self._active_ts = 0  # event time, ms

    @property
    def block_reason(self) -> str:
        """Why the state as it is now may not be served, "" if it may."""
        return f"{_REASONS[self._active[0]]}: {self._active[1]}" if self._active else ""

    def update(self, bins: deque[Bin]) -> list[Finding]:
        current = bins[-1]
        findings = self._check_skipped(bins)
        if current.end > self._active_ts + _NEW_BASELINE_MS and self._active:
            self._baselines[self._active].reset()
            self._deactivate(self._active)
        for key, (square_sum, updates) in current.squared_norms.items():
            ratio, z = self._compare(key, 0.5 * math.log(square_sum / updates + 1e-30))
            is_outlier = z > self._z and ratio > _MIN_RATIO
            self._streak[key] = self._streak.get(key, 0) + 1 if is_outlier else 0
            if key == self._active and ratio < _MIN_RATIO / 2:
                self._deactivate(key)
            elif self._streak[key] >= _MIN_STREAK and self._active is None:
                findings.append(self._activate(key, ratio, z, bins))
        return findings

    def _compare(self, key: NormKey, log_norm: float) -> tuple[float, float]:
        """How many times the usual it is, and its z-score; 1 and 0 while nothing is known."""
        baseline = self._baselines.setdefault(key, IQRBaseline(WARMUP_BINS)).update(log_norm)
        return (1.0, 0.0) if baseline is None else (math.exp(log_norm - baseline[0]), baseline[1])

    def _deactivate(self, key: NormKey) -> None:
        self._active, self._streak[key] = None, 0

    def _activate(self, key: NormKey, ratio: float, z: float, bins: deque[Bin]) -> Finding:
        self._active, self._active_ts = key, bins[-1].end
        detector, component = key
        evidence = {"reason": _REASONS[detector], "component": component, "ratio": round(ratio, 1), "z": round(z, 1)}
        return Finding(
            "learner",
            "poison",
            detector,
            component,
            evidence,
            get_first_offsets(bins, _MIN_STREAK),
            blocks_serving=True,
        )

    def _check_skipped(self, bins: deque[Bin]) -> list[Finding]:
        recent = list(bins)[-_MIN_STREAK:]
        skipped, applied = sum(bin_.skipped_updates for bin_ in recent), sum(bin_.updates for bin_ in recent)
        if skipped < _MIN_SKIPPED or skipped < _MAX_SKIPPED_SHARE * (skipped + applied):
            return []
        reason = "many updates are left out because a gradient is not a number"
        evidence = {"reason": reason, "skipped": skipped, "applied": applied}
        return [Finding("learner", "poison", "non_finite", "", evidence, get_first_offsets(bins))]
