"""Suite of all detectors: it hands each observation to those that take it."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from online_models.control import ActionReturns, ClickRateReturns, EndCondition
from online_models.guard.bins import Bin, NewRows
from online_models.guard.detector import BinDetector, RowDetector, StepDetector, TrainedStep
from online_models.guard.detectors.action_outage import ActionOutageDetector
from online_models.guard.detectors.click_through import ClickThroughDetector
from online_models.guard.detectors.event_rate import EventRateDetector
from online_models.guard.detectors.feature_drift import FeatureDriftDetector
from online_models.guard.detectors.gradient_norms import GradientNormDetector
from online_models.guard.detectors.item_distribution import ItemDistributionDetector
from online_models.guard.detectors.label_flip import LabelFlipDetector
from online_models.guard.detectors.missing_fields import MissingFieldsDetector
from online_models.guard.detectors.prediction_quality import PredictionQualityDetector
from online_models.guard.detectors.preference_shift import PreferenceShiftDetector
from online_models.guard.detectors.producer import ProducerDetector
from online_models.guard.detectors.shilling import ShillingDetector
from online_models.guard.findings import Finding
from online_models.guard.robust_stats import z_threshold
from online_models.guard.settings import GuardRecord
from stream.logs import EventLog


@dataclass(frozen=True, slots=True)
class SuiteSettings(GuardRecord):
    max_bins: int = 60  # kept whole for the detectors
    tests_per_day: int = 1_440 * 20  # bins a day times tests of each, which share the false alarms


class DetectorSuite:
    """Run the detectors of rows, of full bins, and of training steps, in a fixed order."""

    def __init__(self, false_alarms: float, log: EventLog, settings: SuiteSettings | None = None) -> None:
        settings = settings or SuiteSettings()
        z = z_threshold(false_alarms, settings.tests_per_day)
        self._action_outage, self._label_flip = ActionOutageDetector(z), LabelFlipDetector(z)
        self._feature_drift, self.gradient_norms = FeatureDriftDetector(z), GradientNormDetector(z)
        self._click_through = ClickThroughDetector(false_alarms)
        self._preference_shift = PreferenceShiftDetector(false_alarms, self._label_flip.has_excess_clicks)
        self._row_detectors: Sequence[RowDetector] = (ShillingDetector(), EventRateDetector())
        self._bin_detectors: Sequence[BinDetector] = (
            self._action_outage,
            MissingFieldsDetector(z),
            self._label_flip,
            ItemDistributionDetector(z),
            self._feature_drift,
            self.gradient_norms,
            PredictionQualityDetector(z, self._label_flip.has_excess_clicks),  # after label flips
        )
        self._step_detectors: Sequence[StepDetector] = (self._click_through, ProducerDetector(log))
        self._bins: deque[Bin] = deque(maxlen=settings.max_bins)
        self._history_start_ts = 0  # event time, ms, before which histories are ignored

    @property
    def block_reason(self) -> str:
        """Reason why the current state may not be served, "" if it may."""
        return self.gradient_norms.block_reason

    @property
    def trial_start(self) -> int | None:
        """Start of the histories on trial in the next step, ms; None: there is no trial."""
        return self._preference_shift.trial_start

    def update_rows(self, rows: NewRows) -> list[Finding]:
        """Run the detectors that need no training step."""
        return [finding for detector in self._row_detectors for finding in detector.update(rows)]

    def update_bin(self, current: Bin) -> list[Finding]:
        """Run the detectors that compare a full bin with those before it."""
        self._bins.append(current)
        findings = [finding for detector in self._bin_detectors for finding in detector.update(self._bins)]
        current.feature_sample = []  # most of a bin's memory, and not needed again
        return findings

    def update_step(self, step: TrainedStep, full_bin: Bin | None) -> list[Finding]:
        """Run all detectors on a training step, and on the bin that it has filled."""
        self._follow_truncation(step)
        findings = self.update_rows(step.rows)
        findings += self.update_bin(full_bin) if full_bin else []
        findings += [finding for detector in self._step_detectors for finding in detector.update(step)]
        for finding in findings:
            if finding.change_ts:
                self._preference_shift.suspect_change(finding.change_ts)
        return findings + self._preference_shift.update(step)

    def is_over(self, end_condition: EndCondition, current: Bin) -> bool | None:
        """Return True if the end condition of a pause holds; None: too few events to say."""
        match end_condition:
            case ActionReturns():
                return self._action_outage.is_over(end_condition, current)
            case ClickRateReturns():
                return self._label_flip.is_over(end_condition, current)

    def close_incident(self, end_condition: EndCondition, is_new_baseline: bool) -> None:
        """End an incident; `is_new_baseline`: it has lasted so long that it is the new baseline."""
        match end_condition:
            case ActionReturns():
                self._action_outage.close_incident(end_condition, is_new_baseline)
            case ClickRateReturns():
                self._label_flip.close_incident(is_new_baseline)

    def on_rollback(self) -> None:
        """Reset the detectors of the model; detectors of the events keep their baselines."""
        self._bins.clear()
        for detector in (self._feature_drift, self.gradient_norms, self._click_through, self._preference_shift):
            detector.reset()

    def _follow_truncation(self, step: TrainedStep) -> None:
        """Reset feature drift when a command truncates histories: features change by that."""
        truncation = step.result.truncation
        start_ts = truncation.start_ts if truncation.is_active(int(step.rows.batch.ts.max())) else 0
        if start_ts != self._history_start_ts:
            self._history_start_ts = start_ts
            self._feature_drift.reset()
