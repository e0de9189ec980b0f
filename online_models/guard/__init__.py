"""Guard: detectors of drift and poison, their alarms, and the remedies that undo poison."""

from online_models.guard.detector import Detector
from online_models.guard.findings import Finding

__all__ = ["Detector", "Finding"]
