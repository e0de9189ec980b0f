"""Detect predictions that become worse because user behavior changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, FollowDrift, deviation_evidence, get_first_offsets
from online_models.guard.robust_stats import Deviation, MedianBaseline, PageHinkley, RateBaseline
from online_models.guard.settings import GuardRecord
from stream.clock import HOUR_MS


@dataclass(frozen=True, slots=True)
class PredictionQualitySettings(GuardRecord):
    baseline_bins: int = 60  # of loss and AUC: both change slowly while the model matures
    min_closed_items: int = 50
    min_clicks: int = 10  # in a bin, to measure the AUC
    max_calibration_ratio: float = 0.8  # of observed to expected clicks
    excess_ratio: float = 1.2  # of observed to expected clicks, above which nothing is reported
    excess_cooldown_ms: int = HOUR_MS  # event time for which outcomes may stem from excess clicks
    loss_slack: float = 1.0
    loss_factor: float = 4.0  # times z: threshold of the sum
    auc_slack: float = 0.5
    auc_factor: float = 3.0  # times z


class PredictionQualityDetector:
    """Compare outcomes with predictions: clicks, log loss, and the rank of clicked items.

    - Null hypothesis: calibration, log loss and AUC within slates are those of the baseline.
    - Statistic: `RateBaseline` deviation of clicks against expected clicks (`calibration`); Page–Hinkley sums of
      robust z-scores of log loss (`loss`) and of the relative rank of clicked items (`auc`).
    - Threshold: -z and less than 0.8 of the expected clicks; 4 z; 3 z.
    - An alarm means that users behave differently.

    `has_excess_clicks` says that clicks may be poison: they increase the loss, and are no drift.
    """

    def __init__(
        self, z: float, has_excess_clicks: Callable[[Bin], bool], settings: PredictionQualitySettings | None = None
    ) -> None:
        self._z = z
        self._has_excess_clicks = has_excess_clicks
        self._settings = settings = settings or PredictionQualitySettings()
        self._excess_end_ts = -settings.excess_cooldown_ms  # end of the last excess, event time in ms
        self._calibration = RateBaseline(WARMUP_BINS)
        self._loss = MedianBaseline(WARMUP_BINS, settings.baseline_bins)
        self._loss_test = PageHinkley(settings.loss_slack, settings.loss_factor * z)
        self._auc = MedianBaseline(WARMUP_BINS, settings.baseline_bins)
        self._auc_test = PageHinkley(settings.auc_slack, settings.auc_factor * z)

    def reset(self) -> None:
        for part in (self._calibration, self._loss, self._loss_test, self._auc, self._auc_test):
            part.reset()

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        current = bins[-1]
        self._excess_end_ts = current.end if self._has_excess_clicks(current) else self._excess_end_ts
        if current.closed_items < self._settings.min_closed_items or current.is_stale:
            return []
        calibration = self._calibration.update(current.observed_clicks, current.expected_clicks)
        loss_z = self._loss.update(current.log_loss_sum / current.closed_items)
        is_loss_rising = loss_z is not None and self._loss_test.update(min(loss_z, self._z))
        is_auc_falling = self._is_auc_falling(current)
        if calibration is None:
            return []
        is_above_expected = calibration.z > self._z / 2 and calibration.ratio > self._settings.excess_ratio
        if is_above_expected or current.start < self._excess_end_ts + self._settings.excess_cooldown_ms:
            return []
        findings = self._make_findings(bins, calibration, is_loss_rising, is_auc_falling)
        if findings:
            self.reset()
        return findings

    def _is_auc_falling(self, current: Bin) -> bool:
        """Return True if clicked items rank lower than before, measured as clicks arrive.

        When an impression closes, the model has already trained on its clicks.
        """
        if current.slate_clicks < self._settings.min_clicks:
            return False
        z = self._auc.update(current.click_rank_sum / current.slate_clicks)
        return z is not None and self._auc_test.update(min(-z, self._z))

    def _make_findings(
        self, bins: Sequence[Bin], calibration: Deviation, is_loss_rising: bool, is_auc_falling: bool
    ) -> list[Finding]:
        if calibration.z < -self._z and calibration.ratio < self._settings.max_calibration_ratio:
            evidence = {"reason": "users click less than predicted", **deviation_evidence(calibration)}
            return [_make_finding("calibration", evidence, bins)]
        if is_loss_rising:
            loss = round(bins[-1].log_loss_sum / bins[-1].closed_items, 4)
            return [
                _make_finding("loss", {"reason": "predictions become worse for many users", "log_loss": loss}, bins)
            ]
        if is_auc_falling:
            return [_make_finding("auc", {"reason": "users click items that were predicted lower"}, bins)]
        return []


def _make_finding(detector: str, evidence: dict[str, Any], bins: Sequence[Bin]) -> Finding:
    change_ts = bins[max(0, len(bins) - 3)].start
    return Finding("drift", detector, "", evidence, get_first_offsets(bins), FollowDrift(), change_ts)
