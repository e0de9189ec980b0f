"""What the guard makes of a bin: each monitor looks at it and at those before it."""

from collections import deque

from online_models.control import EndCondition
from online_models.guard.bins import Bin
from online_models.guard.detectors.action_outage import ActionOutageDetector
from online_models.guard.detectors.feature_drift import FeatureDriftDetector
from online_models.guard.detectors.gradient_norms import GradientNormDetector
from online_models.guard.detectors.item_distribution import ItemDistributionDetector
from online_models.guard.detectors.label_flip import LabelFlipDetector
from online_models.guard.detectors.missing_fields import MissingFieldsDetector
from online_models.guard.detectors.prediction_quality import PredictionQualityDetector
from online_models.guard.findings import Finding
from online_models.guard.robust_stats import z_threshold

_TESTS_PER_DAY = 1440 * 20  # bins a day, times what is tested in each
_MAX_BINS = 60  # bins that are kept whole


class DetectorSuite:
    """All that looks at bins."""

    def __init__(self, false_alarms: float) -> None:
        z = z_threshold(false_alarms, _TESTS_PER_DAY)
        self._action_outage, self.label_flip = ActionOutageDetector(z), LabelFlipDetector(z)
        self.feature_drift, self.gradient_norms = FeatureDriftDetector(z), GradientNormDetector(z)
        self._missing_fields, self._prediction_quality, self._item_distribution = (
            MissingFieldsDetector(z),
            PredictionQualityDetector(z),
            ItemDistributionDetector(z),
        )
        self._bins: deque[Bin] = deque(maxlen=_MAX_BINS)

    def update(self, current: Bin) -> list[Finding]:
        """What is odd about this bin and those before it."""
        self._bins.append(current)
        detectors = (
            self._action_outage,
            self._missing_fields,
            self.label_flip,
            self._item_distribution,
            self.feature_drift,
            self.gradient_norms,
        )
        findings = [finding for detector in detectors for finding in detector.update(self._bins)]
        return findings + self._prediction_quality.update(
            self._bins, has_excess_clicks=self.label_flip.has_excess_clicks(current)
        )

    def is_over(self, end_condition: EndCondition, current: Bin) -> bool | None:
        """Whether what lasted is over; None: too little happened to say."""
        if isinstance(end_condition, tuple):
            return self._action_outage.is_over(end_condition, current)
        return self.label_flip.is_over(end_condition, current)

    def close_incident(self, end_condition: EndCondition, is_new_baseline: bool) -> None:
        """It is over, or has lasted for so long that it is `meant`, and the new usual."""
        if isinstance(end_condition, tuple):
            (self._action_outage.reset if is_new_baseline else self._action_outage.discard_recent)(end_condition)
        else:
            self.label_flip.close_incident(is_new_baseline)

    def reset(self) -> None:
        """Leave the bins so far out of what follows."""
        self._bins.clear()
        self.feature_drift.reset()
        self.gradient_norms.reset()
