"""Progressive metrics: quality of the predictions from before training."""

from collections import deque

import numpy as np

from online_models import metrics
from online_models.rankers.auc import auc_score
from online_models.step_result import StepReport, StepResult
from stream.records.batches import Kind

_OBJECTIVE = "click"
_GAUGES = {
    "log_loss": metrics.log_loss,
    "auc": metrics.auc,
    "calibration": metrics.calibration_ratio,
    "slate_auc": metrics.slate_auc,
    "candidate_auc": metrics.candidate_auc,
}


class ProgressiveMetrics:
    """Log loss, AUC and calibration over a window of closed items; AUC within lists, averaged.

    They are set as gauges, and written into manifests; they change nothing that is learned.
    `window_items`: closed items in the window. `decay`: weight of the average for each step that trained on lists.
    """

    def __init__(self, window_items: int = 5_000, decay: float = 0.98) -> None:
        self._window_items, self._decay = window_items, decay
        self._window: deque[tuple[np.ndarray, np.ndarray]] = deque()  # (probability, label) per step
        self._size = 0
        self._values: dict[str, float] = {}
        for component in StepReport().update_norms:  # a missing series cannot be distinguished from 0
            metrics.update_norm.labels(component)

    def update(self, result: StepResult) -> None:
        """Add the predictions of a step, and set the gauges."""
        for kind in Kind:
            metrics.examples.labels(kind.name).inc(int((result.batch.kind == kind).sum()))
        self._update_norms(result.report)
        if result.report.slate_ranker.lists:
            self._update_average("slate_auc", result.report.slate_ranker.auc)
        if result.report.candidate_ranker.lists:
            self._update_average("candidate_auc", result.report.candidate_ranker.auc)
        if result.closed.label.size:
            self._update_window(result.closed.probability, result.closed.label)
        for name, value in self._values.items():
            _GAUGES[name].labels(_OBJECTIVE).set(value)

    def values(self) -> dict[str, float]:
        """Finite values by name, rounded."""
        # A manifest is JSON, which has no infinities: one value of that kind would make the checkpoint unreadable.
        return {name: round(float(value), 6) for name, value in self._values.items() if np.isfinite(value)}

    def _update_norms(self, report: StepReport) -> None:
        metrics.unsampled_actions.inc(report.unsampled_actions)
        metrics.forgotten_lists.inc(report.forgotten_lists)
        metrics.updates_skipped.inc(report.skipped)
        metrics.updates_clipped.inc(report.slate_ranker.clipped + report.candidate_ranker.clipped)
        metrics.gradient_norm.set(max(report.slate_ranker.gradient_norm, report.candidate_ranker.gradient_norm))
        for component, (norm, updates) in report.update_norms.items():
            if updates:
                metrics.update_norm.labels(component).set(norm)

    def _update_average(self, name: str, value: float) -> None:
        self._values[name] = self._decay * self._values.get(name, value) + (1 - self._decay) * value

    def _update_window(self, probability: np.ndarray, label: np.ndarray) -> None:
        self._window.append((probability, label))
        self._size += label.size
        while self._size - self._window[0][1].size >= self._window_items:
            self._size -= self._window.popleft()[1].size
        p = np.concatenate([array for array, _ in self._window]).astype(float)
        y = np.concatenate([array for _, array in self._window])
        self._values["log_loss"] = float(-np.where(y > 0, np.log(p), np.log1p(-p)).mean())
        if y.any():
            self._values["calibration"] = float(p.sum() / y.sum())
            score = auc_score(p, y)
            self._values["auc"] = 0.5 if score is None else score
