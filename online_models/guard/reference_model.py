"""An older version beside the live one, on the same places: what a learner has to compare itself with."""

from dataclasses import dataclass

import numpy as np

from online_models.model import RecommenderModel
from online_models.progressive_predictions import ClosedImpressions
from online_models.rankers.click_head import ClickHead
from online_models.rankers.listnet import ListNet

_REFRESH_ITEMS = 3_000  # that are predicted by both before the older one makes way for a newer
_MIN_ITEMS = 1_000
_MAX_LOSS_INCREASE = 0.05  # of the older one's loss, by which the newer has to be worse
_MIN_STD_ERRORS = 6.0  # standard errors of the difference


@dataclass(frozen=True, slots=True)
class ReferencePredictions:
    """Places of which the outcome is known, as the older version predicts them."""

    probability: np.ndarray  # (m,) float


class ReferenceModel:
    """The heads of an older version, asked about the same places as the live ones.

    Both are judged by what people do now, so that a change of the world speaks against neither; a learner that broke
    itself is worse than it was.
    """

    def __init__(self) -> None:
        self._heads: tuple[ListNet, ClickHead] | None = None
        self._version = ""  # the version that the heads are of
        self._clear()

    def _clear(self) -> None:
        self._n_items = 0
        self._loss_sum = self._diff_sum = self._squared_diff_sum = 0.0

    def update(self, model: RecommenderModel, version: str) -> ReferencePredictions | None:
        """Ask about the places that the last step closed; None while there is nobody to ask."""
        closed = model.closed_impressions
        predictions = self._predict(closed) if closed.label.size and self._heads else None
        if self._heads is None or (self._n_items >= _REFRESH_ITEMS and not self.degradation_reason()):
            self._load(model, version)
        return predictions

    def degradation_reason(self) -> str:
        """Why the live version is worse than it was, "" if it is not."""
        n = self._n_items
        if n < _MIN_ITEMS:
            return ""
        mean_diff, reference_loss = self._diff_sum / n, self._loss_sum / n
        std_error = np.sqrt(max(self._squared_diff_sum / n - mean_diff * mean_diff, 1e-12) / n)
        if mean_diff < _MAX_LOSS_INCREASE * reference_loss or mean_diff < _MIN_STD_ERRORS * std_error:
            return ""
        return f"log loss of {reference_loss + mean_diff:.4f} where {self._version} has {reference_loss:.4f}, on the same {n} places"

    def reset(self) -> None:
        """The learner has gone back: what it is compared with begins anew."""
        self._heads = None
        self._clear()

    def _predict(self, closed: ClosedImpressions) -> ReferencePredictions:
        assert self._heads
        ranker, click_head = self._heads
        p = np.clip(click_head.predict(ranker.hidden(closed.features)).astype(float), 1e-6, 1 - 1e-6)
        diff = _log_loss(closed.probability.astype(float), closed.label) - (
            reference_loss := _log_loss(p, closed.label)
        )
        self._n_items += p.size
        self._loss_sum += float(reference_loss.sum())
        self._diff_sum += float(diff.sum())
        self._squared_diff_sum += float((diff**2).sum())
        return ReferencePredictions(p)

    def _load(self, model: RecommenderModel, version: str) -> None:
        n_inputs = len(model.feature_names)
        ranker, click_head = (
            ListNet(n_inputs, model.settings.ranker),
            ClickHead(n_inputs + model.settings.ranker.hidden),
        )
        ranker.apply(model.slate_ranker.changes())
        click_head.apply(model.click_head.changes())
        self._heads, self._version = (ranker, click_head), version
        self._clear()


def _log_loss(p: np.ndarray, label: np.ndarray) -> np.ndarray:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    loss: np.ndarray = -np.where(label > 0, np.log(p), np.log1p(-p))
    return loss
