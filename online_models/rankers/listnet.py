"""ListNet: order lists by a small network with a softmax loss (Cao et al., ICML 2007)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models.features.feature_names import take_columns
from online_models.protocols import LearnReport, Ranker, RankerSettings
from online_models.rankers.auc import list_auc
from online_models.rankers.dense_layer import add_weighted, forward, forward_rows, standardize, sum_of_squares
from online_models.rankers.feature_scaler import FeatureScaler
from online_models.state.tables import State
from stream.jit import kernel

# Statistics of a call: sums over lists (loss, AUC), counts, the greatest gradient norm, and sums of squared norms.
LOSS, LISTS, SKIPPED, AUC, NORM, CLIPPED, UPDATES, GRADIENT_SQUARES, UPDATE_SQUARES = range(9)


@dataclass(frozen=True, slots=True)
class ListNetSettings:
    """Hyperparameters; Adam takes one step per `batch_lists` lists."""

    hidden: int = 32
    rate: float = 0.002  # Adam's
    batch_lists: int = 4
    clip: float = 5.0  # greatest norm of a gradient
    weight_decay: float = 1e-5

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.batch_lists < 1 or self.rate <= 0 or self.clip <= 0:
            raise ValueError(f"hidden, batch_lists, rate and clip must be positive, got {self}")


class Layers(NamedTuple):
    """Parameters, or their gradient: views of one flat array."""

    w: np.ndarray  # (inputs, hidden)
    bias: np.ndarray  # (hidden,)
    head: np.ndarray  # (hidden,), weights of the hidden layer in the score
    linear: np.ndarray  # (inputs,), weights of the standardized features in the score


class ListBuffers(NamedTuple):
    """Values of one list between its forward and its backward pass."""

    z: np.ndarray  # (longest, inputs) standardized features
    hidden: np.ndarray  # (longest, hidden)
    p: np.ndarray  # (longest,) exp(score - greatest score); softmax probabilities after the backward pass
    delta: np.ndarray  # (hidden,) scratch


class AdamState(NamedTuple):
    """Flat parameters with their gradient and moments."""

    theta: np.ndarray
    gradient: np.ndarray
    first_moment: np.ndarray
    second_moment: np.ndarray
    steps: np.ndarray  # (1,) int64


class AdamSettings(NamedTuple):
    """Settings of one step."""

    rate: float
    clip: float
    weight_decay: float


def split_parameters(flat: np.ndarray, inputs: int, width: int) -> Layers:
    """Views of a flat array as layers."""
    w_end, bias_end = inputs * width, (inputs + 1) * width
    head_end = bias_end + width
    return Layers(flat[:w_end].reshape(inputs, width), flat[w_end:bias_end], flat[bias_end:head_end], flat[head_end:])


@kernel
def _forward_list(
    x: np.ndarray, offset: np.ndarray, mean: np.ndarray, scale: np.ndarray, layers: Layers, buffers: ListBuffers
) -> np.float32:
    """Fill the buffers for one list; returns the sum of `p`."""
    # Taken apart here: to reach into a tuple inside a loop counts references.
    z, hidden, p = buffers.z, buffers.hidden, buffers.p
    w, bias, head, linear = layers.w, layers.bias, layers.head, layers.linear
    top, norm = np.float32(-1e30), np.float32(0.0)
    for m in range(x.shape[0]):
        standardize(x[m], mean, scale, z[m])
        forward(z[m], w, bias, hidden[m])
        score = offset[m]
        for j in range(head.size):
            score += hidden[m, j] * head[j]
        for f in range(linear.size):
            score += z[m, f] * linear[f]
        p[m] = score
        top = max(top, score)
    for m in range(x.shape[0]):
        p[m] = np.exp(p[m] - top)
        norm += p[m]
    return norm


@kernel
def _backward_list(
    label: np.ndarray,
    total: np.float32,
    norm: np.float32,
    layers: Layers,
    buffers: ListBuffers,
    gradient: Layers,
    stats: np.ndarray,
) -> None:
    """Add the gradient of one list's cross entropy; skip entries that are predicted right."""
    z, hidden, p, delta, head = buffers.z, buffers.hidden, buffers.p, buffers.delta, layers.head
    g_w, g_bias, g_head, g_linear = gradient.w, gradient.bias, gradient.head, gradient.linear
    for m in range(label.size):
        p[m] /= norm
        y = label[m] / total
        if y > 0.0:
            stats[LOSS] -= y * np.log(max(p[m], np.float32(1e-12)))
        e = p[m] - y
        if abs(e) < np.float32(2e-4):
            continue
        for j in range(delta.size):
            g_head[j] += e * hidden[m, j]
            delta[j] = e * head[j] * (np.float32(1.0) if hidden[m, j] > 0.0 else np.float32(0.01))
            g_bias[j] += delta[j]
        for f in range(z.shape[1]):
            g_linear[f] += e * z[m, f]
            if z[m, f] != np.float32(0.0):
                for j in range(delta.size):
                    g_w[f, j] += z[m, f] * delta[j]


@kernel
def _adam_step(state: AdamState, n_lists: int, settings: AdamSettings, stats: np.ndarray) -> None:
    """One step of Adam (Kingma and Ba 2015) by the mean gradient, with decoupled decay.

    Clears the gradient. One that is not finite changes nothing else.
    """
    theta, gradient, squared_norm = state.theta, state.gradient, 0.0
    for q in range(theta.size):
        gradient[q] /= np.float32(n_lists)
        squared_norm += gradient[q] * gradient[q]
    if np.isfinite(squared_norm):
        stats[NORM] = max(stats[NORM], np.sqrt(squared_norm))
        stats[GRADIENT_SQUARES] += squared_norm
        stats[UPDATES] += 1
        state.steps[0] += 1
        clip_factor = np.float32(min(1.0, settings.clip / np.sqrt(squared_norm + 1e-12)))
        stats[CLIPPED] += clip_factor < 1.0
        beta1, beta2 = np.float32(0.9), np.float32(0.999)
        lr = np.float32(settings.rate * np.sqrt(1.0 - 0.999 ** state.steps[0]) / (1.0 - 0.9 ** state.steps[0]))
        decay = np.float32(settings.rate * settings.weight_decay)
        first_moment, second_moment = state.first_moment, state.second_moment
        for q in range(theta.size):
            g = gradient[q] * clip_factor
            first_moment[q] = beta1 * first_moment[q] + (np.float32(1.0) - beta1) * g
            second_moment[q] = beta2 * second_moment[q] + (np.float32(1.0) - beta2) * g * g
            step = lr * first_moment[q] / (np.sqrt(second_moment[q]) + np.float32(1e-8))
            gradient[q] = step + decay * theta[q]
            theta[q] -= gradient[q]
        stats[UPDATE_SQUARES] += sum_of_squares(gradient)
    else:
        stats[SKIPPED] += 1
    gradient[:] = 0.0


@kernel
def _train(
    x: np.ndarray,
    label: np.ndarray,
    offset: np.ndarray,
    start: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    layers: Layers,
    gradient: Layers,
    adam: AdamState,
    batch_lists: int,
    settings: AdamSettings,
    stats: np.ndarray,
) -> None:
    """Predict each list by the parameters that the steps before it left, then train on it."""
    longest, n_pending = 0, 0
    for i in range(start.size - 1):
        longest = max(longest, start[i + 1] - start[i])
    size, width = layers.w.shape
    buffers = ListBuffers(
        np.empty((longest, size), np.float32),
        np.empty((longest, width), np.float32),
        np.empty(longest, np.float32),
        np.empty(width, np.float32),
    )
    for i in range(start.size - 1):
        begin, end, total = start[i], start[i + 1], np.float32(0.0)
        for m in range(begin, end):
            total += label[m]
        if end - begin >= 2 and total > 0.0:
            norm = _forward_list(x[begin:end], offset[begin:end], mean, scale, layers, buffers)
            stats[AUC] += list_auc(buffers.p, label[begin:end])
            _backward_list(label[begin:end], total, norm, layers, buffers, gradient, stats)
            stats[LISTS] += 1
            n_pending += 1
        if n_pending == batch_lists or (n_pending and i == start.size - 2):
            _adam_step(adam, n_pending, settings, stats)
            n_pending = 0


def _make_report(stats: np.ndarray) -> LearnReport:
    lists = int(stats[LISTS])
    if not lists:
        return LearnReport()
    skipped, clipped, updates = int(stats[SKIPPED]), int(stats[CLIPPED]), int(stats[UPDATES])
    rms_gradient_norm, update_norm = np.sqrt(stats[[GRADIENT_SQUARES, UPDATE_SQUARES]] / max(1, updates)).tolist()
    loss, auc = stats[LOSS] / lists, stats[AUC] / lists
    return LearnReport(lists, loss, auc, stats[NORM], skipped, clipped, updates, rms_gradient_norm, update_norm)


class ListNet(Ranker):
    """One hidden layer over standardized features, beside a linear path.

    The running moments that standardize features are state like the weights.
    """

    def __init__(
        self,
        features: tuple[str, ...],
        settings: RankerSettings,
        hyperparameters: ListNetSettings = ListNetSettings(),
    ) -> None:
        self.hyperparameters = hyperparameters
        self._inputs, width = len(features), hyperparameters.hidden
        rng = np.random.default_rng(settings.seed)
        weights = rng.standard_normal(self._inputs * width) / np.sqrt(self._inputs)
        head = rng.standard_normal(width) * 0.3 / np.sqrt(width)
        self._theta = np.concatenate([weights, np.zeros(width), head, np.zeros(self._inputs)]).astype(np.float32)
        self._scaler = FeatureScaler(self._inputs)
        self._optimizer: State = {
            "first_moment": np.zeros(self._theta.size, np.float32),
            "second_moment": np.zeros(self._theta.size, np.float32),
            "steps": np.zeros(1, np.int64),
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
        """Train on lists in their order; a list without a label, or of one item, is skipped."""
        return self.learn_shown(x, labels, start, np.zeros(labels.size, np.float32))

    def learn_shown(self, x: np.ndarray, labels: np.ndarray, start: np.ndarray, offset: np.ndarray) -> LearnReport:
        self._scaler.check_width(x)
        if x.shape[0] == 0:
            return LearnReport()
        self._scaler.update(x)
        gradient, stats, parameters = np.zeros_like(self._theta), np.zeros(9), self.hyperparameters
        _train(
            x,
            labels,
            offset,
            start,
            self._scaler.mean,
            self._scaler.scale,
            self._split(self._theta),
            self._split(gradient),
            AdamState(self._theta, gradient, **self._optimizer),
            parameters.batch_lists,
            AdamSettings(parameters.rate, parameters.clip, parameters.weight_decay),
            stats,
        )
        return _make_report(stats)

    def _split(self, flat: np.ndarray) -> Layers:
        return split_parameters(flat, self._inputs, self.width)

    def state(self) -> State:
        return {"theta": self._theta, **self._scaler.moments, **self._optimizer, **self._scaler.counts}

    def convert_state(self, state: State, columns: np.ndarray) -> State:
        """Move weights and moments of each feature to its column; a new one starts with weight 0."""
        flat = {name: self._convert_flat(state[name], columns) for name in ("theta", "first_moment", "second_moment")}
        return self._scaler.convert_state(state, columns) | flat

    def _convert_flat(self, flat: np.ndarray, columns: np.ndarray) -> np.ndarray:
        n_old = (flat.size - 2 * self.width) // (self.width + 1)
        old = split_parameters(flat, n_old, self.width)
        moved = take_columns(old.w, columns).ravel(), old.bias, old.head, take_columns(old.linear, columns)
        return np.concatenate(moved)

    def restore(self, state: State) -> None:
        self.apply(state)
        self._scaler.restore(state)
        self._optimizer = {name: state[name].copy() for name in self._optimizer}

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
