"""ListNet: order lists by a small network with a softmax loss (Cao et al., ICML 2007)."""

from dataclasses import dataclass, field

import numpy as np

from online_models.features.feature_names import take_columns
from online_models.protocols import LearnReport, Ranker, RankerSettings
from online_models.rankers.feature_scaler import FeatureScaler
from online_models.rankers.network.adam import AdamSettings, AdamState
from online_models.rankers.network.dense_layer import add_weighted, forward_rows
from online_models.rankers.network.listnet_kernels import Layers, split_parameters, train
from online_models.state.tables import State


@dataclass(frozen=True, slots=True)
class ListNetSettings:
    """Hyperparameters."""

    hidden: int = 32
    adam: AdamSettings = field(default_factory=AdamSettings)

    def __post_init__(self) -> None:
        if self.hidden < 1:
            raise ValueError(f"hidden must be positive, got {self}")


# Lists of candidates come from the whole catalog: their gradients need larger batches.
_SETTINGS = {
    "shown": ListNetSettings(),
    "candidates": ListNetSettings(adam=AdamSettings(rate=0.004, batch_lists=16, final_ratio=0.1)),
}


def _make_report(list_stats: np.ndarray, step_stats: np.ndarray) -> LearnReport:
    loss, auc, lists = list_stats.tolist()
    if not lists:
        return LearnReport()
    skipped, norm, clipped, updates, gradient_squares, update_squares = step_stats.tolist()
    rms_gradient_norm, update_norm = np.sqrt(np.array([gradient_squares, update_squares]) / max(1, updates)).tolist()
    counts = int(skipped), int(clipped), int(updates)
    return LearnReport(int(lists), loss / lists, auc / lists, norm, *counts, rms_gradient_norm, update_norm)


_FLAT = ("theta", "gradient", "first_moment", "second_moment")
_EARLIER_BATCH = 4  # lists per step of checkpoints that have no count of lists


class ListNet(Ranker):
    """One hidden layer over standardized features, beside a linear path.

    The running moments that standardize features are state like the weights.
    """

    def __init__(
        self,
        features: tuple[str, ...],
        settings: RankerSettings,
        hyperparameters: ListNetSettings | None = None,
    ) -> None:
        self.hyperparameters = hyperparameters = hyperparameters or _SETTINGS[settings.lists]
        self._inputs, width = len(features), hyperparameters.hidden
        rng = np.random.default_rng(settings.seed)
        weights = rng.standard_normal(self._inputs * width) / np.sqrt(self._inputs)
        head = rng.standard_normal(width) * 0.3 / np.sqrt(width)
        self._theta = np.concatenate([weights, np.zeros(width), head, np.zeros(self._inputs)]).astype(np.float32)
        self._scaler = FeatureScaler(self._inputs)
        self._optimizer: State = {
            "gradient": np.zeros(self._theta.size, np.float32),
            "first_moment": np.zeros(self._theta.size, np.float32),
            "second_moment": np.zeros(self._theta.size, np.float32),
            "steps": np.zeros(1, np.int64),
            "lists": np.zeros(2, np.int64),
        }

    @property
    def width(self) -> int:
        """Units of the hidden layer."""
        return self.hyperparameters.hidden

    def score(self, x: np.ndarray, start: np.ndarray) -> np.ndarray:
        return self.scores_from_hidden(x, self.hidden(x), start)

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """The standardized features, then the hidden layer, (m, inputs + width) float32."""
        self._scaler.check_width(x)
        layers = self._split(self._theta)
        out = np.empty((x.shape[0], self._inputs + self.width), np.float32)
        forward_rows(x, self._scaler.mean, self._scaler.scale, layers.w, layers.bias, out)
        return out

    def scores_from_hidden(self, x: np.ndarray, hidden: np.ndarray, start: np.ndarray) -> np.ndarray:
        layers, out = self._split(self._theta), np.zeros(hidden.shape[0], np.float32)
        add_weighted(hidden[:, self._inputs :], layers.head, out)
        add_weighted(hidden[:, : self._inputs], layers.linear, out)
        return out

    def learn(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray) -> LearnReport:
        """Train on lists in their order; a list without a label, or of one item, is skipped.

        Lists that do not fill a batch wait for the next call.
        """
        return self.learn_shown(x, labels, start, np.zeros(labels.size, np.float32))

    def learn_shown(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray, offset: np.ndarray) -> LearnReport:
        self._scaler.check_width(x)
        if x.shape[0] == 0:
            return LearnReport()
        self._scaler.update(x)
        adam, list_stats, step_stats = AdamState(self._theta, **self._optimizer), np.zeros(3), np.zeros(6)
        train(
            x,
            labels,
            offset,
            start,
            self._scaler.mean,
            self._scaler.scale,
            self._split(self._theta),
            self._split(adam.gradient),
            adam,
            self.hyperparameters.adam.columns,
            list_stats,
            step_stats,
        )
        return _make_report(list_stats, step_stats)

    def _split(self, flat: np.ndarray) -> Layers:
        return split_parameters(flat, self._inputs, self.width)

    def state(self) -> State:
        return {"theta": self._theta, **self._scaler.moments, **self._optimizer, **self._scaler.counts}

    def convert_state(self, state: State, columns: np.ndarray) -> State:
        """Move weights and moments of each feature to its column; a new one starts with weight 0."""
        flat = {name: self._convert_flat(array, columns) for name, array in state.items() if name in _FLAT}
        return self._scaler.convert_state(state, columns) | flat

    def _convert_flat(self, flat: np.ndarray, columns: np.ndarray) -> np.ndarray:
        n_old = (flat.size - 2 * self.width) // (self.width + 1)
        old = split_parameters(flat, n_old, self.width)
        moved = take_columns(old.w, columns).ravel(), old.bias, old.head, take_columns(old.linear, columns)
        return np.concatenate(moved)

    def restore(self, state: State) -> None:
        self.apply(state)
        self._scaler.restore(state)
        steps, none = state["steps"], np.zeros_like(self._theta)
        earlier = {"gradient": none, "lists": np.array([0, int(steps[0]) * _EARLIER_BATCH])}
        self._optimizer = {name: (earlier | state)[name].copy() for name in self._optimizer}

    def changes(self) -> State:
        """A copy of parameters and moments: all that a replica needs to score."""
        return {name: array.copy() for name, array in ({"theta": self._theta} | self._scaler.moments).items()}

    def apply(self, changes: State) -> None:
        size = self._theta.size
        if changes["theta"].size != size:
            restored = changes["theta"].size
            raise ValueError(f"a network of {size} parameters cannot take {restored}: features or settings differ")
        self._theta = changes["theta"].copy()
        self._scaler.apply(changes)
