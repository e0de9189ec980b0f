"""What became of places beside what was predicted of them: a world that changes."""

from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, deviation_evidence, get_first_offsets
from online_models.guard.robust_stats import Deviation, MedianBaseline, PageHinkley, RateBaseline

_BASELINE_BINS = 60  # bins that loss and order are compared with: both go up and down slowly as the learner grows up
_MIN_CLICKS = 10  # answers in a bin, for their order to tell
_EXCESS_COOLDOWN_MS = 3_600_000  # for which outcomes come of slates that were answered in doubt


class PredictionQualityDetector:
    """Compares outcomes with predictions, by their number, their loss and their order."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._calibration = RateBaseline(WARMUP_BINS)
        self._excess_end_ts = -_EXCESS_COOLDOWN_MS  # event time up to which slates were answered in doubt, ms
        self._loss, self._loss_test = (
            MedianBaseline(WARMUP_BINS, _BASELINE_BINS),
            PageHinkley(slack=1.0, threshold=4 * z),
        )
        self._auc, self._auc_test = MedianBaseline(WARMUP_BINS, _BASELINE_BINS), PageHinkley(slack=0.5, threshold=3 * z)

    def update(self, bins: deque[Bin], has_excess_clicks: bool) -> list[Finding]:
        """`doubtful`: slates are answered so often that it may be poison, which worsens the loss and is no drift."""
        current = bins[-1]
        self._excess_end_ts = current.end if has_excess_clicks else self._excess_end_ts
        if current.closed_items < 50 or current.is_stale:
            return []
        calibration = self._calibration.update(current.observed_clicks, current.expected_clicks)
        loss_z = self._loss.update(current.log_loss_sum / current.closed_items)
        is_loss_rising = loss_z is not None and self._loss_test.update(min(loss_z, self._z))
        is_auc_falling = self._is_auc_falling(current)
        if calibration is None:
            return []
        is_above_expected = calibration.z > self._z / 2 and calibration.ratio > 1.2
        findings = (
            []
            if is_above_expected or current.start < self._excess_end_ts + _EXCESS_COOLDOWN_MS
            else self._make_findings(bins, calibration, is_loss_rising, is_auc_falling)
        )
        if findings:
            self.reset()
        return findings

    def reset(self) -> None:
        for component in (self._calibration, self._loss, self._loss_test, self._auc, self._auc_test):
            component.reset()

    def _is_auc_falling(self, current: Bin) -> bool:
        """Whether what is taken is no longer what was predicted best; at once: what is closed was learnt by then."""
        if current.slate_clicks < _MIN_CLICKS:
            return False
        z = self._auc.update(current.click_rank_sum / current.slate_clicks)
        return z is not None and self._auc_test.update(min(-z, self._z))

    def _make_findings(
        self, bins: deque[Bin], calibration: Deviation, is_loss_rising: bool, is_auc_falling: bool
    ) -> list[Finding]:
        change_ts = list(bins)[-3:][0].start
        if calibration.z < -self._z and calibration.ratio < 0.8:
            evidence = {"reason": "people take less of what they used to", **deviation_evidence(calibration)}
            return [
                Finding("learner", "drift", "calibration", "", evidence, get_first_offsets(bins), change_ts=change_ts)
            ]
        if is_loss_rising:
            loss = round(bins[-1].log_loss_sum / bins[-1].closed_items, 4)
            evidence = {"reason": "predictions have become worse, for many and coherently", "log_loss": loss}
            return [Finding("learner", "drift", "loss", "", evidence, get_first_offsets(bins), change_ts=change_ts)]
        if is_auc_falling:
            evidence = {"reason": "what people take is no longer what was expected of them"}
            return [Finding("learner", "drift", "auc", "", evidence, get_first_offsets(bins), change_ts=change_ts)]
        return []
