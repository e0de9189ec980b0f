"""How good predictions were before they were learnt from, over the last shown items: for people and manifests."""

from collections import deque

import numpy as np

from online_models import metrics
from online_models.model import RecommenderModel
from stream.records.batches import ExampleBatch, Kind

_WINDOW_ITEMS = 5_000  # shown items over which the measures are taken
_DECAY = 0.98  # weight of the past per step that learnt lists
_OBJECTIVE = "click"
_GAUGES = {
    "log_loss": metrics.log_loss,
    "auc": metrics.auc,
    "calibration": metrics.calibration_ratio,
    "slate_auc": metrics.slate_auc,
    "candidate_auc": metrics.candidate_auc,
}


class ProgressiveMetrics:
    """Progressive measures of the learner's own predictions; they change nothing that is learnt."""

    def __init__(self) -> None:
        self._window: deque[tuple[np.ndarray, np.ndarray]] = deque()  # (probability, label) per step
        self._size = 0
        self._values: dict[str, float] = {}

    def update(self, batch: ExampleBatch, model: RecommenderModel) -> None:
        """Take note of the step that the stack has just learnt from this batch."""
        for kind in Kind:
            metrics.examples.labels(kind.name).inc(int((batch.kind == kind).sum()))
        metrics.item_table_rows.set(len(model.items))
        report = model.report
        metrics.updates_skipped.inc(report.skipped)
        metrics.updates_clipped.inc(report.slate_ranker.clipped + report.candidate_ranker.clipped)
        metrics.gradient_norm.set(max(report.slate_ranker.gradient_norm, report.candidate_ranker.gradient_norm))
        for component, (norm, updates) in report.update_norms.items():
            if updates:
                metrics.update_norm.labels(component).set(norm)
        if report.slate_ranker.lists:
            self._update_average("slate_auc", report.slate_ranker.auc)
        if report.candidate_ranker.lists:
            self._update_average("candidate_auc", report.candidate_ranker.auc)
        if model.closed_impressions.label.size:
            self._update_window(model.closed_impressions.probability, model.closed_impressions.label)
        for name, value in self._values.items():
            _GAUGES[name].labels(_OBJECTIVE).set(value)

    def values(self) -> dict[str, float]:
        """Log loss, AUC and calibration of click probabilities; AUC within slates and within candidates."""
        # A manifest is JSON, which has no infinities: with one in it no checkpoint could be read again.
        return {name: round(float(value), 6) for name, value in self._values.items() if np.isfinite(value)}

    def _update_average(self, name: str, value: float) -> None:
        self._values[name] = _DECAY * self._values.get(name, value) + (1 - _DECAY) * value

    def _update_window(self, probability: np.ndarray, label: np.ndarray) -> None:
        self._window.append((probability, label))
        self._size += label.size
        while self._size - self._window[0][1].size >= _WINDOW_ITEMS:
            self._size -= self._window.popleft()[1].size
        p = np.concatenate([array for array, _ in self._window]).astype(float)
        y = np.concatenate([array for _, array in self._window])
        self._values["log_loss"] = float(-np.where(y > 0, np.log(p), np.log1p(-p)).mean())
        if y.any():
            self._values["calibration"] = float(p.sum() / y.sum())
            self._values["auc"] = auc(p, y > 0)


def auc(score: np.ndarray, is_positive: np.ndarray) -> float:
    """Chance that something taken scored above something left (Mann and Whitney 1947); equal scores count half."""
    negatives = np.sort(score[~is_positive])
    if negatives.size == 0:
        return 0.5
    below, up_to = (
        np.searchsorted(negatives, score[is_positive], "left"),
        np.searchsorted(negatives, score[is_positive], "right"),
    )
    return float((below + up_to).mean() / (2 * negatives.size))
