"""How far the ranker is wrong of what is shown, by category and context: the linear bandit that the learner keeps."""

from collections.abc import Mapping, Sequence

import numpy as np

from online_models.bandits.posteriors.discounting import Fading
from online_models.bandits.posteriors.hybrid_linear import Hybrid, HybridSettings
from online_models.bandits.protocols import Judged, Rewards
from online_models.state.item_table import Items
from online_models.state.tables import State
from stream.jit import kernel

# Features of a context, by the number that brings them to about 1; none hangs on what else is on the list.
_OWN = {"always": 1.0, "category_share": 0.5}
_SHARED = _OWN | {
    "chance": 0.25,
    "category_latest": 1.0,
    "category_shown": 4.0,
    "category_rate": 2.0,
    "age": 8.0,
    "tower": 1.0,
}
_MADE_HERE = {"always": -1, "chance": -2}  # what is no feature: the number 1, and what the ranker predicts
_ALWAYS, _CHANCE = _MADE_HERE.values()
_FARTHEST = 2.0  # from zero, of a context's numbers
_STRANGER, _OTHER = np.uint64(1), np.uint64(2)  # arms that are no category: one that nobody tried, and one for the rest
_MOST = 2_000  # arms; a catalogue may have a category for each item
_RIDGE = 300.0  # places of a category, shown in a context of length 1, that weigh as much as the ranker's word
_FADING = Fading(half_life=7 * 86_400.0, patience=0)  # the ranker itself moves: no past of an arm is refuted for it
_LEARNING_ONLY = ("sums", "watch")  # columns that no judgement is made from


@kernel
def _fill_contexts(
    features: np.ndarray, chance: np.ndarray, columns: np.ndarray, scales: np.ndarray, out: np.ndarray
) -> None:
    for m in range(out.shape[0]):
        for c in range(columns.size):
            told = 1.0
            if columns[c] == _CHANCE:
                told = float(chance[m])
            elif columns[c] != _ALWAYS:
                told = float(features[m, columns[c]])
            out[m, c] = min(_FARTHEST, max(-_FARTHEST, told / scales[c]))


class ByCategory:
    """Hybrid LinUCB (Li et al. 2010, Algorithm 2) with an arm per first category, around the ranker's prediction.

    What is learnt is clicks less the probability predicted, so that what nobody tried is thought of as the ranker does;
    halved and moved to 0.5, since a reward is from 0 to 1. Judging admits nothing: a category that is unknown is judged
    as an arm that nobody tried, by what all share. Beyond 2,000 categories the rest share an arm.
    """

    def __init__(self, items: Items, names: Sequence[str]) -> None:
        """`names` of the columns of features, among which those of a context are found."""
        self._items = items
        own, shared = _columns(_OWN, names), _columns(_SHARED, names)
        self._columns, self._scales = np.concatenate([own[0], shared[0]]), np.concatenate([own[1], shared[1]])
        self._widths = own[0].size, shared[0].size
        self._model = _untaught(*self._widths)

    def learn(
        self, rows: np.ndarray, features: np.ndarray, chance: np.ndarray, label: np.ndarray, ts: np.ndarray
    ) -> None:
        """What became of shown items: (m,) item rows, (m, f) features as served, the ranker's chance, 0 or 1, ms."""
        reward = (1.0 + label.astype(np.float64) - chance) / 2.0
        arms = self._admit(self._keys(rows))
        self._model.learn(Rewards(arms, self._contexts(features, chance), reward, np.ones(arms.size), ts))

    def judge(self, rows: np.ndarray, features: np.ndarray, chance: np.ndarray, rate: float) -> Judged:
        """Chances of items, put right, and how unsure that is; `rate` of clicks says how far one click is off it."""
        arms = np.maximum(self._model.find(self._keys(rows)), 0)
        judged = self._model.judge(arms, self._contexts(features, chance))
        means = np.clip(chance + 2.0 * (judged.means - 0.5), 0.0, 1.0)
        return Judged(means, np.sqrt(rate * (1.0 - rate)) * judged.spreads)

    def _keys(self, rows: np.ndarray) -> np.ndarray:
        """First categories of item rows, (m,) uint64."""
        keys = np.where(rows >= 0, self._items.catalogue["categories"][rows, 0], np.uint64(0))
        return np.where(keys == 0, _OTHER, keys)

    def _admit(self, keys: np.ndarray) -> np.ndarray:
        arms = self._model.find(keys)
        if (arms < 0).any():
            self._model.admit(np.unique(keys[arms < 0])[: max(0, _MOST - len(self._model))])
            arms = self._model.find(keys)
        rest: np.ndarray = np.where(arms < 0, self._model.find(np.array([_OTHER])), arms)
        return rest

    def _contexts(self, features: np.ndarray, chance: np.ndarray) -> np.ndarray:
        out = np.empty((features.shape[0], self._columns.size))
        _fill_contexts(features, chance, self._columns, self._scales, out)
        return out

    def state(self) -> State:
        return self._model.state()

    def restore(self, state: State) -> None:
        """Become what `state()` gave; of a checkpoint from before there was a bandit, one that has learnt nothing."""
        self._model = _untaught(*self._widths)
        if state:
            self._model.restore(state)

    def changes(self) -> State:
        """What judging needs of the arms that changed; what only learning needs stays behind."""
        return {name: array for name, array in self._model.changes().items() if name not in _LEARNING_ONLY}

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica; a learner from before there was a bandit tells of none."""
        if changes:
            self._model.apply(changes)


def _untaught(own: int, shared: int) -> Hybrid:
    """A model of so many numbers for each arm and for all, with the two arms that are no category."""
    settings = HybridSettings(ridge=_RIDGE, noise=1.0, mean=0.5, fading=_FADING, shared_ridge=_RIDGE)
    model = Hybrid(own, shared, settings)
    model.admit(np.array([_STRANGER, _OTHER]))
    return model


def _columns(told: Mapping[str, float], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Columns of one part of a context, and by what their numbers are divided."""
    columns = [_MADE_HERE[name] if name in _MADE_HERE else names.index(name) for name in told]
    return np.array(columns, np.int64), np.array(list(told.values()))
