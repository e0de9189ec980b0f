"""Rank lists by a pointwise model of standardized features: FTRL, FM or DeepFM."""

import numpy as np

from online_models.protocols import FeatureRows, LearnReport, PointwiseModel, Ranker, RankerSettings
from online_models.rankers.auc import list_metrics
from online_models.rankers.deepfm import DeepFM, DeepFMSettings
from online_models.rankers.factorization_machine import FactorizationMachine, FMSettings
from online_models.rankers.feature_scaler import FeatureScaler
from online_models.rankers.ftrl import FTRLRegression, FTRLSettings
from online_models.rankers.network.dense_layer import standardize_rows
from online_models.state.embeddings import EmbeddingSettings
from online_models.state.tables import State, prefix_states, substate

_NO_FIELDS = 0  # hashed fields do not reach rankers yet


class PointwiseRanker(Ranker):
    """Score by the log-odds that a pointwise model predicts.

    Only lists with a click and another item train it.
    """

    def __init__(self, features: tuple[str, ...], model: PointwiseModel) -> None:
        self._model = model
        self._scaler = FeatureScaler(len(features))

    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        return self.scores_from_hidden(x, self.hidden(x), start)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """The standardized features, (m, len(features)) float32."""
        self._scaler.check_width(x)
        z = np.empty(x.shape, np.float32)
        standardize_rows(x, self._scaler.mean, self._scaler.scale, z)
        return z

    def scores_from_hidden(self, x: np.ndarray, hidden: np.ndarray, start: np.ndarray) -> np.ndarray:
        p = self._model.predict(_to_rows(hidden, np.zeros(hidden.shape[0], np.float32)))
        log_odds: np.ndarray = np.log(p) - np.log1p(-p)
        return log_odds

    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        self._scaler.check_width(x)
        if x.shape[0] == 0:
            return LearnReport()
        self._scaler.update(x)
        is_trained, starts = _select_lists(labels, start)
        z, labels = self.hidden(x[is_trained]), labels[is_trained].clip(0, 1)
        scores = self.scores_from_hidden(x, z, starts)
        self._model.learn(_to_rows(z, labels))
        return _make_report(z, scores, labels, starts)

    def state(self) -> State:
        return prefix_states({"model": self._model.state(), "scaler": self._scaler.moments | self._scaler.counts})

    def restore(self, state: State) -> None:
        self._scaler.restore(substate(state, "scaler"))
        self._model.restore(substate(state, "model"))

    def changes(self) -> State:
        moments = {name: array.copy() for name, array in self._scaler.moments.items()}
        return prefix_states({"model": self._model.changes(), "scaler": moments})

    def apply(self, changes: State) -> None:
        self._scaler.apply(substate(changes, "scaler"))
        self._model.apply(substate(changes, "model"))


class FTRLRanker(PointwiseRanker):
    """Logistic regression by FTRL-proximal."""

    def __init__(self, features: tuple[str, ...], settings: RankerSettings) -> None:
        super().__init__(features, FTRLRegression(_NO_FIELDS, len(features), FTRLSettings(bits=4)))


class FMRanker(PointwiseRanker):
    """Factorization machine."""

    def __init__(self, features: tuple[str, ...], settings: RankerSettings) -> None:
        factors = EmbeddingSettings(seed=settings.seed)
        super().__init__(features, FactorizationMachine(_NO_FIELDS, len(features), FMSettings(factors)))


class DeepFMRanker(PointwiseRanker):
    """DeepFM."""

    def __init__(self, features: tuple[str, ...], settings: RankerSettings) -> None:
        vectors = EmbeddingSettings(seed=settings.seed)
        super().__init__(features, DeepFM(_NO_FIELDS, len(features), DeepFMSettings(vectors)))


def _to_rows(numbers: np.ndarray, labels: np.ndarray) -> FeatureRows:
    n = numbers.shape[0]
    return FeatureRows(np.zeros((n, _NO_FIELDS), np.uint64), numbers, labels, np.ones(n, np.float32), np.arange(n + 1))


def _select_lists(labels: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the rows in lists with a click and another item; starts of these lists."""
    clicks = np.diff(np.concatenate([[0], np.cumsum(labels > 0)])[start])
    lengths = np.diff(start)
    is_trained = (clicks > 0) & (lengths > 1)
    return np.repeat(is_trained, lengths), np.concatenate([[0], np.cumsum(lengths[is_trained])])


def _make_report(z: np.ndarray, scores: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
    """Report loss, AUC, and the norm of each list's gradient by a linear score of the features."""
    lists, loss, auc = list_metrics(scores, labels, start)
    if not lists:
        return LearnReport()
    error = 1 / (1 + np.exp(-scores)) - labels
    squares = (np.add.reduceat(error[:, None] * z, start[:-1]).astype(np.float64) ** 2).sum(axis=1)
    is_finite = np.isfinite(squares)
    greatest, mean = squares[is_finite].max(initial=0.0), squares[is_finite].mean() if is_finite.any() else 0.0
    updates = int(is_finite.sum())
    return LearnReport(
        lists,
        loss,
        auc,
        float(np.sqrt(greatest)),
        lists - updates,
        updates=updates,
        rms_gradient_norm=float(np.sqrt(mean)),
    )
