"""How good predictions were before they were learnt from, over the last shown items: for people and manifests."""

from collections import deque

import numpy as np

from online_models import metrics
from online_models.model import Stack
from stream.records.batches import ExampleBatch, Kind

_KEPT = 5_000  # shown items over which the measures are taken
_FADE = 0.98  # weight of the past per step that learnt lists


class Meter:
    """Progressive measures of the learner's own predictions; they change nothing that is learnt."""

    def __init__(self) -> None:
        self._closed: deque[tuple[np.ndarray, np.ndarray]] = deque()  # (probability, label) per step
        self._size = 0
        self._values: dict[str, float] = {}

    def see(self, batch: ExampleBatch, stack: Stack) -> None:
        """Take note of the step that the stack has just learnt from this batch."""
        for kind in Kind:
            metrics.examples.labels(kind.name).inc(int((batch.kind == kind).sum()))
        metrics.items.set(len(stack.items))
        report = stack.report
        metrics.skipped.inc(report.skipped)
        metrics.clipped.inc(report.ordered.clipped + report.picked.clipped)
        metrics.gradient_norm.set(max(report.ordered.gradient_norm, report.picked.gradient_norm))
        for part, (norm, updates) in report.update_norms.items():
            if updates:
                metrics.update_norm.labels(part).set(norm)
        if report.ordered.lists:
            self._fade("slate_auc", report.ordered.auc)
        if report.picked.lists:
            self._fade("pick_auc", report.picked.auc)
        if stack.closed.label.size:
            self._keep(stack.closed.probability, stack.closed.label)
        for name, value in self._values.items():
            metrics.progressive.labels(name).set(value)

    def values(self) -> dict[str, float]:
        """Log loss, AUC and calibration of click probabilities; AUC within slates and within candidates."""
        # A manifest is JSON, which has no infinities: with one in it no checkpoint could be read again.
        return {name: round(float(value), 6) for name, value in self._values.items() if np.isfinite(value)}

    def _fade(self, name: str, value: float) -> None:
        self._values[name] = _FADE * self._values.get(name, value) + (1 - _FADE) * value

    def _keep(self, probability: np.ndarray, label: np.ndarray) -> None:
        self._closed.append((probability, label))
        self._size += label.size
        while self._size - self._closed[0][1].size >= _KEPT:
            self._size -= self._closed.popleft()[1].size
        p = np.concatenate([one for one, _ in self._closed]).astype(float)
        y = np.concatenate([one for _, one in self._closed])
        self._values["log_loss"] = float(-np.where(y > 0, np.log(p), np.log1p(-p)).mean())
        if y.any():
            self._values["calibration"] = float(p.sum() / y.sum())
            self._values["auc"] = auc(p, y > 0)


def auc(score: np.ndarray, taken: np.ndarray) -> float:
    """Chance that something taken scored above something left (Mann and Whitney 1947); equal scores count half."""
    left = np.sort(score[~taken])
    if left.size == 0:
        return 0.5
    below, up_to = np.searchsorted(left, score[taken], "left"), np.searchsorted(left, score[taken], "right")
    return float((below + up_to).mean() / (2 * left.size))
