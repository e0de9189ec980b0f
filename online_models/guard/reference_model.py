"""Reference model: predictions of an older version on the same impressions as the live one."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from online_models.guard.settings import GuardRecord
from online_models.progressive_predictions import ClickPredictor, ClosedImpressions


@dataclass(frozen=True, slots=True)
class ReferenceSettings(GuardRecord):
    refresh_items: int = 3_000  # predicted by both versions before the reference is replaced by a newer one
    min_items: int = 1_000  # before the versions are compared
    max_loss_increase: float = 0.05  # relative to the reference's log loss
    min_std_errors: float = 6.0  # of the difference


@dataclass(frozen=True, slots=True)
class ReferencePredictions:
    """Predictions of an older version for shown items whose outcome is known."""

    probability: np.ndarray  # (m,) float64, of a click


class ReferenceModel:
    """Compare the live version's log loss with that of an older version.

    - Null hypothesis: the live version predicts as well as the older one.
    - Statistic: mean difference of the two log losses over the same shown items.
    - Threshold: 5 % of the older version's log loss, and 6 standard errors of the difference.
    - An alarm means that training has made the model worse.

    Both versions predict what users do now, so a change of user behavior counts against neither.
    """

    def __init__(self, settings: ReferenceSettings | None = None) -> None:
        self._settings = settings or ReferenceSettings()
        self._predict_clicks: ClickPredictor | None = None
        self._version = ""  # that makes these predictions
        self._clear()

    def _clear(self) -> None:
        self._n_items = 0
        self._loss_sum = self._diff_sum = self._squared_diff_sum = 0.0

    def update(
        self, closed: ClosedImpressions, version: str, copy_click_predictor: Callable[[], ClickPredictor]
    ) -> ReferencePredictions | None:
        """Predict the impressions that a step closed; None while there is no reference.

        `copy_click_predictor` copies the predictor of `version` when the reference is due to be replaced by it.
        """
        predict_clicks = self._predict_clicks
        predictions = self._predict(closed, predict_clicks) if closed.label.size and predict_clicks else None
        is_due = self._n_items >= self._settings.refresh_items and not self.degradation_reason()
        if predict_clicks is None or is_due:
            self._predict_clicks, self._version = copy_click_predictor(), version
            self._clear()
        return predictions

    def degradation_reason(self) -> str:
        """Reason why the live version is worse than the reference, "" if it is not."""
        n = self._n_items
        if n < self._settings.min_items:
            return ""
        mean_diff, reference_loss = self._diff_sum / n, self._loss_sum / n
        std_error = np.sqrt(max(self._squared_diff_sum / n - mean_diff * mean_diff, 1e-12) / n)
        is_large = mean_diff >= self._settings.max_loss_increase * reference_loss
        if not is_large or mean_diff < self._settings.min_std_errors * std_error:
            return ""
        losses = f"{reference_loss + mean_diff:.4f} where {self._version} has {reference_loss:.4f}"
        return f"log loss of {losses} on the same {n} shown items"

    def reset(self) -> None:
        """Drop the reference after a rollback; the next version becomes the new one."""
        self._predict_clicks = None
        self._clear()

    def _predict(self, closed: ClosedImpressions, predict_clicks: ClickPredictor) -> ReferencePredictions:
        p = np.clip(predict_clicks(closed.features, closed.position_offset).astype(float), 1e-6, 1 - 1e-6)
        reference_loss = _log_loss(p, closed.label)
        diff = _log_loss(closed.probability.astype(float), closed.label) - reference_loss
        self._n_items += p.size
        self._loss_sum += float(reference_loss.sum())
        self._diff_sum += float(diff.sum())
        self._squared_diff_sum += float((diff**2).sum())
        return ReferencePredictions(p)


def _log_loss(p: np.ndarray, label: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    loss: np.ndarray = -np.where(label > 0, np.log(p), np.log1p(-p))
    return loss
