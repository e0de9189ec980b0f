"""Correct the ranker's prediction by category and context: the linear bandit of the learner."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.posteriors.hybrid_linear import HybridLinear, HybridSettings
from online_models.bandits.protocols import Posterior, RewardBatch
from online_models.state.item_table import ItemTable
from online_models.state.tables import State
from stream.jit import kernel

_ARM_SCALES = {"bias": 1.0, "category_share": 0.5}
_SHARED_SCALES = _ARM_SCALES | {
    "prediction": 0.25,
    "category_latest": 1.0,
    "category_shown": 4.0,
    "category_rate": 2.0,
    "age": 8.0,
    "two_tower": 1.0,
}


@dataclass(frozen=True, slots=True)
class CategoryResidualSettings:
    """Context, size and prior of the model."""

    # Features of a context, each with the divisor that brings it to about 1. None depends on the other candidates.
    arm_scales: Mapping[str, float] = field(default_factory=lambda: _ARM_SCALES)
    shared_scales: Mapping[str, float] = field(default_factory=lambda: _SHARED_SCALES)
    max_abs: float = 2.0  # bound of every number in a context
    max_arms: int = 2_000  # a catalog may have a category per item
    ridge: float = 300.0  # impressions in a context of length 1 that count as much as the ranker's prediction
    half_life: float = 7 * 86_400.0  # seconds

    @property
    def model(self) -> HybridSettings:
        # The ranker changes all the time, so that a change never refutes an arm's history.
        discounting = Discounting(self.half_life, change_threshold=0)
        return HybridSettings(ridge=self.ridge, noise=1.0, mean=0.5, discounting=discounting, shared_ridge=self.ridge)


_COMPUTED_COLUMNS = {"bias": -1, "prediction": -2}  # not features: the number 1, and the ranker's prediction
_BIAS, _PREDICTION = _COMPUTED_COLUMNS.values()
_UNKNOWN, _OTHER = np.uint64(1), np.uint64(2)  # arms of categories that were never shown, and of those beyond max_arms
_TRAINING_COLUMNS = ("sums", "monitor")  # columns that prediction does not read


class _ContextColumns(NamedTuple):
    columns: np.ndarray  # (c,) int64, feature columns or computed ones
    scales: np.ndarray  # (c,) float64


@kernel
def _fill_contexts(
    features: np.ndarray, probabilities: np.ndarray, context_columns: _ContextColumns, max_abs: float, out: np.ndarray
) -> None:
    columns, scales = context_columns
    for m in range(out.shape[0]):
        for c in range(columns.size):
            value = 1.0
            if columns[c] == _PREDICTION:
                value = float(probabilities[m])
            elif columns[c] != _BIAS:
                value = float(features[m, columns[c]])
            out[m, c] = min(max_abs, max(-max_abs, value / scales[c]))


class CategoryResidualBandit:
    """Hybrid LinUCB around the ranker's prediction (Li et al. 2010, Algorithm 2).

    An arm is a first category. The bandit learns clicks minus the predicted probability, so that without feedback it
    agrees with the ranker. The residual is halved and shifted to 0.5, because a reward is from 0 to 1. Prediction adds
    no arms: an unknown category is predicted as a new arm, by the shared weights. Categories beyond `max_arms` share
    one arm.
    """

    def __init__(
        self, items: ItemTable, names: Sequence[str], settings: CategoryResidualSettings = CategoryResidualSettings()
    ) -> None:
        """`names`: columns of the features, among which are those of the context."""
        self._items = items
        self._settings = settings
        self._context_columns = _find_columns([*settings.arm_scales.items(), *settings.shared_scales.items()], names)
        self._model = HybridLinear(len(settings.arm_scales), len(settings.shared_scales), settings.model)
        self._model.add_arms(np.array([_UNKNOWN, _OTHER]))

    def learn(
        self, rows: np.ndarray, features: np.ndarray, probabilities: np.ndarray, label: np.ndarray, ts: np.ndarray
    ) -> None:
        """Train on m impressions: item rows, (m, f) features, predictions, labels, times in ms."""
        reward = (1.0 + label.astype(np.float64) - probabilities) / 2.0
        arms = self._add_arms(self._category_keys(rows))
        contexts = self._build_contexts(features, probabilities)
        self._model.learn(RewardBatch(arms, contexts, reward, np.ones(arms.size), ts))

    def posterior(self, rows: np.ndarray, features: np.ndarray, probabilities: np.ndarray, rate: float) -> Posterior:
        """Corrected click probabilities of m items; `rate` of clicks gives the variance of one."""
        arms = np.maximum(self._model.lookup(self._category_keys(rows)), 0)
        posterior = self._model.posterior(arms, self._build_contexts(features, probabilities))
        means = np.clip(probabilities + 2.0 * (posterior.means - 0.5), 0.0, 1.0)
        return Posterior(means, np.sqrt(rate * (1.0 - rate)) * posterior.stds)

    def _category_keys(self, rows: np.ndarray) -> np.ndarray:
        """First categories of item rows, (m,) uint64."""
        keys = np.where(rows >= 0, self._items.catalog["categories"][rows, 0], np.uint64(0))
        return np.where(keys == 0, _OTHER, keys)

    def _add_arms(self, keys: np.ndarray) -> np.ndarray:
        """Rows of arms by category, (m,) int32; new categories get an arm while there is room."""
        arms = self._model.lookup(keys)
        if (arms < 0).any():
            self._model.add_arms(np.unique(keys[arms < 0])[: max(0, self._settings.max_arms - len(self._model))])
            arms = self._model.lookup(keys)
        result: np.ndarray = np.where(arms < 0, self._model.lookup(np.array([_OTHER])), arms)
        return result

    def _build_contexts(self, features: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        out = np.empty((features.shape[0], self._model.width))
        _fill_contexts(features, probabilities, self._context_columns, self._settings.max_abs, out)
        return out

    def state(self) -> State:
        return self._model.state()

    def restore(self, state: State) -> None:
        self._model.restore(state)

    def changes(self) -> State:
        """Changed arms, without the columns that only training reads."""
        return {name: array for name, array in self._model.changes().items() if name not in _TRAINING_COLUMNS}

    def apply(self, changes: State) -> None:
        self._model.apply(changes)


def _find_columns(scales: Sequence[tuple[str, float]], names: Sequence[str]) -> _ContextColumns:
    """Column and divisor of each number of a context."""
    columns = [_COMPUTED_COLUMNS[name] if name in _COMPUTED_COLUMNS else names.index(name) for name, _ in scales]
    return _ContextColumns(np.array(columns, np.int64), np.array([scale for _, scale in scales]))
