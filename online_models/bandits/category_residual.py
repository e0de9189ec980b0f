"""How far the ranker is wrong of what is shown, by category and context: the linear bandit that the learner keeps."""

from collections.abc import Mapping, Sequence

import numpy as np

from online_models.bandits.posteriors.discounting import Discounting
from online_models.bandits.posteriors.hybrid_linear import HybridLinear, HybridSettings
from online_models.bandits.protocols import Posterior, RewardBatch
from online_models.state.item_table import ItemTable
from online_models.state.tables import State
from stream.jit import kernel

# Features of a context, by the number that brings them to about 1; none hangs on what else is on the list.
_ARM_FEATURES = {"bias": 1.0, "category_share": 0.5}
_SHARED_FEATURES = _ARM_FEATURES | {
    "prediction": 0.25,
    "category_latest": 1.0,
    "category_shown": 4.0,
    "category_rate": 2.0,
    "age": 8.0,
    "two_tower": 1.0,
}
_COMPUTED_COLUMNS = {"bias": -1, "prediction": -2}  # what is no feature: the number 1, and what the ranker predicts
_BIAS, _PREDICTION = _COMPUTED_COLUMNS.values()
_MAX_ABS = 2.0  # from zero, of a context's numbers
_UNKNOWN, _OTHER = np.uint64(1), np.uint64(2)  # arms that are no category: one that nobody tried, and one for the rest
_MAX_ARMS = 2_000  # arms; a catalogue may have a category for each item
_RIDGE = 300.0  # places of a category, shown in a context of length 1, that weigh as much as the ranker's word
_DISCOUNTING = Discounting(
    half_life=7 * 86_400.0, change_threshold=0
)  # the ranker itself moves: no past of an arm is refuted for it
_TRAINING_COLUMNS = ("sums", "monitor")  # columns that no judgement is made from


@kernel
def _fill_contexts(
    features: np.ndarray, probabilities: np.ndarray, columns: np.ndarray, scales: np.ndarray, out: np.ndarray
) -> None:
    for m in range(out.shape[0]):
        for c in range(columns.size):
            value = 1.0
            if columns[c] == _PREDICTION:
                value = float(probabilities[m])
            elif columns[c] != _BIAS:
                value = float(features[m, columns[c]])
            out[m, c] = min(_MAX_ABS, max(-_MAX_ABS, value / scales[c]))


class CategoryResidualBandit:
    """Hybrid LinUCB (Li et al. 2010, Algorithm 2) with an arm per first category, around the ranker's prediction.

    What is learnt is clicks less the probability predicted, so that what nobody tried is thought of as the ranker does;
    halved and moved to 0.5, since a reward is from 0 to 1. Judging admits nothing: a category that is unknown is judged
    as an arm that nobody tried, by what all share. Beyond 2,000 categories the rest share an arm.
    """

    def __init__(self, items: ItemTable, names: Sequence[str]) -> None:
        """`names` of the columns of features, among which those of a context are found."""
        self._items = items
        arm_columns, shared_columns = _find_columns(_ARM_FEATURES, names), _find_columns(_SHARED_FEATURES, names)
        self._columns, self._scales = (
            np.concatenate([arm_columns[0], shared_columns[0]]),
            np.concatenate([arm_columns[1], shared_columns[1]]),
        )
        self._widths = arm_columns[0].size, shared_columns[0].size
        self._model = _untrained_model(*self._widths)

    def learn(
        self, rows: np.ndarray, features: np.ndarray, probabilities: np.ndarray, label: np.ndarray, ts: np.ndarray
    ) -> None:
        """What became of shown items: (m,) item rows, (m, f) features as served, the ranker's chance, 0 or 1, ms."""
        reward = (1.0 + label.astype(np.float64) - probabilities) / 2.0
        arms = self._add_arms(self._category_keys(rows))
        self._model.learn(
            RewardBatch(arms, self._build_contexts(features, probabilities), reward, np.ones(arms.size), ts)
        )

    def posterior(self, rows: np.ndarray, features: np.ndarray, probabilities: np.ndarray, rate: float) -> Posterior:
        """Chances of items, put right, and how unsure that is; `rate` of clicks says how far one click is off it."""
        arms = np.maximum(self._model.lookup(self._category_keys(rows)), 0)
        posterior = self._model.posterior(arms, self._build_contexts(features, probabilities))
        means = np.clip(probabilities + 2.0 * (posterior.means - 0.5), 0.0, 1.0)
        return Posterior(means, np.sqrt(rate * (1.0 - rate)) * posterior.stds)

    def _category_keys(self, rows: np.ndarray) -> np.ndarray:
        """First categories of item rows, (m,) uint64."""
        keys = np.where(rows >= 0, self._items.catalog["categories"][rows, 0], np.uint64(0))
        return np.where(keys == 0, _OTHER, keys)

    def _add_arms(self, keys: np.ndarray) -> np.ndarray:
        arms = self._model.lookup(keys)
        if (arms < 0).any():
            self._model.add_arms(np.unique(keys[arms < 0])[: max(0, _MAX_ARMS - len(self._model))])
            arms = self._model.lookup(keys)
        result: np.ndarray = np.where(arms < 0, self._model.lookup(np.array([_OTHER])), arms)
        return result

    def _build_contexts(self, features: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        out = np.empty((features.shape[0], self._columns.size))
        _fill_contexts(features, probabilities, self._columns, self._scales, out)
        return out

    def state(self) -> State:
        return self._model.state()

    def restore(self, state: State) -> None:
        """Become what `state()` gave; of a checkpoint from before there was a bandit, one that has learnt nothing."""
        self._model = _untrained_model(*self._widths)
        if state:
            self._model.restore(state)

    def changes(self) -> State:
        """What judging needs of the arms that changed; what only learning needs stays behind."""
        return {name: array for name, array in self._model.changes().items() if name not in _TRAINING_COLUMNS}

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica; a learner from before there was a bandit tells of none."""
        if changes:
            self._model.apply(changes)


def _untrained_model(arm_width: int, shared_width: int) -> HybridLinear:
    """A model of so many numbers for each arm and for all, with the two arms that are no category."""
    settings = HybridSettings(ridge=_RIDGE, noise=1.0, mean=0.5, discounting=_DISCOUNTING, shared_ridge=_RIDGE)
    model = HybridLinear(arm_width, shared_width, settings)
    model.add_arms(np.array([_UNKNOWN, _OTHER]))
    return model


def _find_columns(scales: Mapping[str, float], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns of one part of a context, and by what their numbers are divided."""
    columns = [_COMPUTED_COLUMNS[name] if name in _COMPUTED_COLUMNS else names.index(name) for name in scales]
    return np.array(columns, np.int64), np.array(list(scales.values()))
