"""A small network that orders lists: softmax over the list (ListNet's top-one loss; Cao et al., ICML 2007)."""

from dataclasses import dataclass

import numpy as np

from online_models.rankers.dense_layer import add_weighted, forward, forward_rows, standardize, sum_of_squares
from online_models.state.tables import State
from stream.jit import kernel

_MIN_MOMENT_RATE = 0.002  # part of the way that the moments move with each call, once they are settled
# Of `told`: sums over lists, updates skipped as not finite or clipped, the greatest gradient norm; updates made, and
# sums of squares: of gradient norms, and of how far updates moved the parameters.
LOSS, LISTS, SKIPPED, AUC, NORM, CLIPPED, UPDATES, GRADIENT_SQUARES, UPDATE_SQUARES = range(9)


@dataclass(frozen=True, slots=True)
class ListReport:
    """What one call of `learn_lists` met: means over its lists, predicted before they were learnt."""

    lists: int = 0
    loss: float = 0.0
    auc: float = 0.5
    gradient_norm: float = 0.0  # greatest, before clipping
    skipped: int = 0  # updates that were not finite
    clipped: int = 0  # updates whose gradient was longer than allowed
    updates: int = 0  # that were made
    rms_gradient_norm: float = 0.0  # norm before clipping, root mean square over updates
    update_norm: float = 0.0  # how far an update moved the parameters, root mean square


@dataclass(frozen=True, slots=True)
class ListNetSettings:
    hidden: int = 32
    rate: float = 0.002  # of Adam
    batch_lists: int = 4  # lists per parameter update
    clip: float = 5.0  # largest norm of a gradient
    weight_decay: float = 1e-5
    seed: int = 1

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.batch_lists < 1 or self.rate <= 0 or self.clip <= 0:
            raise ValueError(f"hidden, group, rate and clip must be positive, got {self}")


@kernel
def _blend_moments(x: np.ndarray, rate: float, is_first: bool, mean: np.ndarray, variance: np.ndarray) -> None:
    """Move running moments by a part of the way towards those of the rows."""
    total, square = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for m in range(x.shape[0]):
        for f in range(x.shape[1]):
            total[f] += x[m, f]
    total /= x.shape[0]
    for m in range(x.shape[0]):
        for f in range(x.shape[1]):
            square[f] += (x[m, f] - total[f]) ** 2
    for f in range(x.shape[1]):
        delta = total[f] - mean[f]
        mean[f] += rate * delta
        old_variance = 0.0 if is_first else (1.0 - rate) * variance[f]
        variance[f] = old_variance + rate * (square[f] / x.shape[0] + (1.0 - rate) * delta * delta)


@kernel
def _list_auc(score: np.ndarray, label: np.ndarray, n: int) -> float:
    """Part of the pairs of a taken and another item that stand in the right order, ties half; 0.5 without a pair."""
    pairs, concordant = 0, 0.0
    for a in range(n):
        if label[a] <= 0.0:
            continue
        for b in range(n):
            if label[b] <= 0.0:
                pairs += 1
                concordant += 1.0 if score[a] > score[b] else (0.5 if score[a] == score[b] else 0.0)
    return concordant / pairs if pairs else 0.5


@kernel
def _train(
    x: np.ndarray,
    label: np.ndarray,
    start: np.ndarray,
    width: int,
    batch_lists: int,
    rate: float,
    clip: float,
    decay: float,
    theta: np.ndarray,
    first_moment: np.ndarray,
    second_moment: np.ndarray,
    steps: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    stats: np.ndarray,
) -> None:
    """Predict each list with what the groups before it left, then learn it."""
    size = x.shape[1]
    a, b = size * width, (size + 1) * width
    c = b + width
    w, bias, head, linear = theta[:a].reshape(size, width), theta[a:b], theta[b:c], theta[c:]
    gradient = np.zeros(theta.size, np.float32)
    g_w, g_bias = gradient[:a].reshape(size, width), gradient[a:b]
    g_head, g_linear = gradient[b:c], gradient[c:]
    max_length = 0
    for i in range(start.size - 1):
        max_length = max(max_length, start[i + 1] - start[i])
    z = np.empty((max_length, size), np.float32)
    hidden = np.empty((max_length, width), np.float32)
    p = np.empty(max_length, np.float32)
    delta = np.empty(width, np.float32)
    n_pending = 0
    for i in range(start.size - 1):
        begin, n = start[i], start[i + 1] - start[i]
        total = np.float32(0.0)
        for m in range(n):
            total += label[begin + m]
        if n >= 2 and total > 0.0:
            top = np.float32(-1e30)
            for m in range(n):
                standardize(x[begin + m], mean, scale, z[m])
                forward(z[m], w, bias, hidden[m])
                s = np.float32(0.0)
                for j in range(width):
                    s += hidden[m, j] * head[j]
                for f in range(size):
                    s += z[m, f] * linear[f]
                p[m] = s
                top = max(top, s)
            norm = np.float32(0.0)
            for m in range(n):
                p[m] = np.exp(p[m] - top)
                norm += p[m]
            stats[AUC] += _list_auc(p, label[begin : begin + n], n)
            for m in range(n):
                p[m] /= norm
                y = label[begin + m] / total
                if y > 0.0:
                    stats[LOSS] -= y * np.log(max(p[m], np.float32(1e-12)))
                e = p[m] - y
                if abs(e) < np.float32(2e-4):
                    continue
                for j in range(width):
                    g_head[j] += e * hidden[m, j]
                    delta[j] = e * head[j] * (np.float32(1.0) if hidden[m, j] > 0.0 else np.float32(0.01))
                    g_bias[j] += delta[j]
                for f in range(size):
                    g_linear[f] += e * z[m, f]
                    if z[m, f] != np.float32(0.0):
                        for j in range(width):
                            g_w[f, j] += z[m, f] * delta[j]
            stats[LISTS] += 1
            n_pending += 1
        if n_pending == batch_lists or (n_pending and i == start.size - 2):
            squared_norm = 0.0
            for q in range(theta.size):
                gradient[q] /= np.float32(n_pending)
                squared_norm += gradient[q] * gradient[q]
            if np.isfinite(squared_norm):
                stats[NORM] = max(stats[NORM], np.sqrt(squared_norm))
                stats[GRADIENT_SQUARES] += squared_norm
                stats[UPDATES] += 1
                steps[0] += 1
                clip_factor = np.float32(min(1.0, clip / np.sqrt(squared_norm + 1e-12)))
                stats[CLIPPED] += clip_factor < 1.0
                beta1, beta2 = np.float32(0.9), np.float32(0.999)
                corrected_rate = rate * np.sqrt(1.0 - 0.999 ** steps[0]) / (1.0 - 0.9 ** steps[0])
                lr = np.float32(corrected_rate)
                for q in range(theta.size):
                    g = gradient[q] * clip_factor
                    first_moment[q] = beta1 * first_moment[q] + (np.float32(1.0) - beta1) * g
                    second_moment[q] = beta2 * second_moment[q] + (np.float32(1.0) - beta2) * g * g
                    step = lr * first_moment[q] / (np.sqrt(second_moment[q]) + np.float32(1e-8))
                    gradient[q] = step + np.float32(rate * decay) * theta[q]
                    theta[q] -= gradient[q]
                stats[UPDATE_SQUARES] += sum_of_squares(gradient)
            else:
                stats[SKIPPED] += 1
            gradient[:] = 0.0
            n_pending = 0


class ListNet:
    """One hidden layer over standardised features, beside a linear path.

    Features are standardised by running moments, which are state like the weights.
    """

    def __init__(self, inputs: int, settings: ListNetSettings | None = None) -> None:
        self.settings = settings or ListNetSettings()
        self.inputs = inputs
        width = self.settings.hidden
        rng = np.random.default_rng(self.settings.seed)
        weights = rng.standard_normal(inputs * width) / np.sqrt(inputs)
        head = rng.standard_normal(width) * 0.3 / np.sqrt(width)
        theta = np.concatenate([weights, np.zeros(width), head, np.zeros(inputs)]).astype(np.float32)
        self._dense: State = {
            "theta": theta,
            "mean": np.zeros(inputs, np.float32),
            "variance": np.ones(inputs, np.float32),
        }
        self._optimizer: State = {
            "first_moment": np.zeros(theta.size, np.float32),
            "second_moment": np.zeros(theta.size, np.float32),
            "steps": np.zeros(1, np.int64),
            "rows": np.zeros(1, np.int64),
        }
        self.report = ListReport()  # of the last call of `learn_lists`

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Ranking scores, (m,) float32, comparable within one list."""
        return self.scores_from_hidden(self.hidden(x))

    def hidden(self, x: np.ndarray) -> np.ndarray:
        """The standardised features and the hidden layer, (m, inputs + hidden) float32: what a head may build on."""
        self._check_width(x)
        width, size, dense = self.settings.hidden, self.inputs, self._dense
        w, bias = dense["theta"][: size * width].reshape(size, width), dense["theta"][size * width : (size + 1) * width]
        out = np.empty((x.shape[0], size + width), np.float32)
        forward_rows(x, dense["mean"], self._scale(), w, bias, out)
        return out

    def scores_from_hidden(self, hidden: np.ndarray) -> np.ndarray:
        """The scores of rows of `inside`."""
        width = self.settings.hidden
        top = self._dense["theta"][(self.inputs + 1) * width :]
        out = np.zeros(hidden.shape[0], np.float32)
        add_weighted(hidden[:, self.inputs :], top[:width], out)
        add_weighted(hidden[:, : self.inputs], top[width:], out)
        return out

    def learn_lists(self, x: np.ndarray, label: np.ndarray, start: np.ndarray) -> None:
        """Lists in their order; a list without a label or of one item teaches nothing."""
        self._check_width(x)
        self.report = ListReport()
        if x.shape[0] == 0:
            return
        self._update_moments(x)
        stats = np.zeros(9)
        settings, dense, optimizer = self.settings, self._dense, self._optimizer
        _train(
            x, label, start, settings.hidden, settings.batch_lists, settings.rate, settings.clip,
            settings.weight_decay, dense["theta"], optimizer["first_moment"], optimizer["second_moment"], optimizer["steps"],
            dense["mean"], self._scale(), stats,
        )  # fmt: skip
        if lists := int(stats[LISTS]):
            skipped, clipped, updates = int(stats[SKIPPED]), int(stats[CLIPPED]), int(stats[UPDATES])
            rms_gradient_norm, update_norm = np.sqrt(
                stats[[GRADIENT_SQUARES, UPDATE_SQUARES]] / max(1, updates)
            ).tolist()
            loss, auc = stats[LOSS] / lists, stats[AUC] / lists
            self.report = ListReport(
                lists, loss, auc, stats[NORM], skipped, clipped, updates, rms_gradient_norm, update_norm
            )

    def _check_width(self, x: np.ndarray) -> None:
        if x.shape[1] != self.inputs:  # a kernel would read past the end
            raise ValueError(f"features must have {self.inputs} columns, got {x.shape[1]}")

    def _scale(self) -> np.ndarray:
        scale: np.ndarray = np.float32(1.0) / np.sqrt(self._dense["variance"] + np.float32(1e-4))
        return scale

    def _update_moments(self, x: np.ndarray) -> None:
        """Move the running moments towards those of these rows: the mean of all at first, then of the latest."""
        dense, rows = self._dense, self._optimizer["rows"]
        rate = max(x.shape[0] / (rows[0] + x.shape[0]), _MIN_MOMENT_RATE)
        mean, variance = dense["mean"].copy(), dense["variance"].copy()
        _blend_moments(x, rate, rows[0] == 0, mean, variance)
        if np.isfinite(mean).all() and np.isfinite(variance).all():
            dense["mean"], dense["variance"] = mean, variance
            rows[0] += x.shape[0]

    def state(self) -> State:
        return {**self._dense, **self._optimizer}

    def restore(self, state: State) -> None:
        size = self._dense["theta"].size
        if state["theta"].size != size or state["mean"].size != self.inputs:
            restored_size = state["theta"].size
            raise ValueError(f"a network of {size} parameters was given {restored_size}: features or settings differ")
        self._dense = {name: state[name].copy() for name in self._dense}
        self._optimizer = {name: state[name].copy() for name in self._optimizer}

    def changes(self) -> State:
        """What predicting needs, whole; the optimizer stays behind."""
        return {name: array.copy() for name, array in self._dense.items()}

    def apply(self, changes: State) -> None:
        self._dense = {name: changes[name].copy() for name in self._dense}
