"""A small network that orders lists: softmax over the list (ListNet's top-one loss; Cao et al., ICML 2007)."""

from dataclasses import dataclass

import numpy as np

from online_models.rankers.dense_layer import add_weighed, forward, forward_rows, square_of, standard
from online_models.state.tables import State
from stream.jit import kernel

_SLOWEST = 0.002  # part of the way that the moments move with each call, once they are settled
# Of `told`: sums over lists, updates skipped as not finite or clipped, the greatest gradient norm; updates made, and
# sums of squares: of gradient norms, and of how far updates moved the parameters.
LOSS, LISTS, SKIPPED, AUC, NORM, CLIPPED, UPDATES, SQUARES, MOVES = range(9)


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
    usual_gradient: float = 0.0  # norm before clipping, root mean square over updates
    update_norm: float = 0.0  # how far an update moved the parameters, root mean square


@dataclass(frozen=True, slots=True)
class ListNetSettings:
    hidden: int = 32
    rate: float = 0.002  # of Adam
    group: int = 4  # lists per parameter update
    clip: float = 5.0  # largest norm of a gradient
    weight_decay: float = 1e-5
    seed: int = 1

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.group < 1 or self.rate <= 0 or self.clip <= 0:
            raise ValueError(f"hidden, group, rate and clip must be positive, got {self}")


@kernel
def _move(x: np.ndarray, part: float, first: bool, mean: np.ndarray, variance: np.ndarray) -> None:
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
        off = total[f] - mean[f]
        mean[f] += part * off
        kept = 0.0 if first else (1.0 - part) * variance[f]
        variance[f] = kept + part * (square[f] / x.shape[0] + (1.0 - part) * off * off)


@kernel
def _area(score: np.ndarray, label: np.ndarray, n: int) -> float:
    """Part of the pairs of a taken and another item that stand in the right order, ties half; 0.5 without a pair."""
    pairs, right = 0, 0.0
    for a in range(n):
        if label[a] <= 0.0:
            continue
        for b in range(n):
            if label[b] <= 0.0:
                pairs += 1
                right += 1.0 if score[a] > score[b] else (0.5 if score[a] == score[b] else 0.0)
    return right / pairs if pairs else 0.5


@kernel
def _train(
    x: np.ndarray,
    label: np.ndarray,
    start: np.ndarray,
    width: int,
    group: int,
    rate: float,
    clip: float,
    decay: float,
    theta: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    steps: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    told: np.ndarray,
) -> None:
    """Predict each list with what the groups before it left, then learn it."""
    size = x.shape[1]
    a, b = size * width, (size + 1) * width
    c = b + width
    w, bias, head, linear = theta[:a].reshape(size, width), theta[a:b], theta[b:c], theta[c:]
    gradient = np.zeros(theta.size, np.float32)
    g_w, g_bias = gradient[:a].reshape(size, width), gradient[a:b]
    g_head, g_linear = gradient[b:c], gradient[c:]
    longest = 0
    for i in range(start.size - 1):
        longest = max(longest, start[i + 1] - start[i])
    z = np.empty((longest, size), np.float32)
    hidden = np.empty((longest, width), np.float32)
    p = np.empty(longest, np.float32)
    back = np.empty(width, np.float32)
    waiting = 0
    for i in range(start.size - 1):
        begin, n = start[i], start[i + 1] - start[i]
        total = np.float32(0.0)
        for m in range(n):
            total += label[begin + m]
        if n >= 2 and total > 0.0:
            top = np.float32(-1e30)
            for m in range(n):
                standard(x[begin + m], mean, scale, z[m])
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
            told[AUC] += _area(p, label[begin : begin + n], n)
            for m in range(n):
                p[m] /= norm
                y = label[begin + m] / total
                if y > 0.0:
                    told[LOSS] -= y * np.log(max(p[m], np.float32(1e-12)))
                e = p[m] - y
                if abs(e) < np.float32(2e-4):
                    continue
                for j in range(width):
                    g_head[j] += e * hidden[m, j]
                    back[j] = e * head[j] * (np.float32(1.0) if hidden[m, j] > 0.0 else np.float32(0.01))
                    g_bias[j] += back[j]
                for f in range(size):
                    g_linear[f] += e * z[m, f]
                    if z[m, f] != np.float32(0.0):
                        for j in range(width):
                            g_w[f, j] += z[m, f] * back[j]
            told[LISTS] += 1
            waiting += 1
        if waiting == group or (waiting and i == start.size - 2):
            square = 0.0
            for q in range(theta.size):
                gradient[q] /= np.float32(waiting)
                square += gradient[q] * gradient[q]
            if np.isfinite(square):
                told[NORM] = max(told[NORM], np.sqrt(square))
                told[SQUARES] += square
                told[UPDATES] += 1
                steps[0] += 1
                shrink = np.float32(min(1.0, clip / np.sqrt(square + 1e-12)))
                told[CLIPPED] += shrink < 1.0
                one, two = np.float32(0.9), np.float32(0.999)
                unbias = rate * np.sqrt(1.0 - 0.999 ** steps[0]) / (1.0 - 0.9 ** steps[0])
                lr = np.float32(unbias)
                for q in range(theta.size):
                    g = gradient[q] * shrink
                    first[q] = one * first[q] + (np.float32(1.0) - one) * g
                    second[q] = two * second[q] + (np.float32(1.0) - two) * g * g
                    step = lr * first[q] / (np.sqrt(second[q]) + np.float32(1e-8))
                    gradient[q] = step + np.float32(rate * decay) * theta[q]
                    theta[q] -= gradient[q]
                told[MOVES] += square_of(gradient)
            else:
                told[SKIPPED] += 1
            gradient[:] = 0.0
            waiting = 0


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
        tops = rng.standard_normal(width) * 0.3 / np.sqrt(width)
        theta = np.concatenate([weights, np.zeros(width), tops, np.zeros(inputs)]).astype(np.float32)
        self._dense: State = {
            "theta": theta,
            "mean": np.zeros(inputs, np.float32),
            "variance": np.ones(inputs, np.float32),
        }
        self._optimizer: State = {
            "first": np.zeros(theta.size, np.float32),
            "second": np.zeros(theta.size, np.float32),
            "steps": np.zeros(1, np.int64),
            "rows": np.zeros(1, np.int64),
        }
        self.report = ListReport()  # of the last call of `learn_lists`

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Ranking scores, (m,) float32, comparable within one list."""
        return self.scores_inside(self.inside(x))

    def inside(self, x: np.ndarray) -> np.ndarray:
        """The standardised features and the hidden layer, (m, inputs + hidden) float32: what a head may build on."""
        self._demand(x)
        width, size, dense = self.settings.hidden, self.inputs, self._dense
        w, bias = dense["theta"][: size * width].reshape(size, width), dense["theta"][size * width : (size + 1) * width]
        out = np.empty((x.shape[0], size + width), np.float32)
        forward_rows(x, dense["mean"], self._scale(), w, bias, out)
        return out

    def scores_inside(self, inside: np.ndarray) -> np.ndarray:
        """The scores of rows of `inside`."""
        width = self.settings.hidden
        top = self._dense["theta"][(self.inputs + 1) * width :]
        out = np.zeros(inside.shape[0], np.float32)
        add_weighed(inside[:, self.inputs :], top[:width], out)
        add_weighed(inside[:, : self.inputs], top[width:], out)
        return out

    def learn_lists(self, x: np.ndarray, label: np.ndarray, start: np.ndarray) -> None:
        """Lists in their order; a list without a label or of one item teaches nothing."""
        self._demand(x)
        self.report = ListReport()
        if x.shape[0] == 0:
            return
        self._standardise(x)
        told = np.zeros(9)
        setting, dense, optimizer = self.settings, self._dense, self._optimizer
        _train(
            x, label, start, setting.hidden, setting.group, setting.rate, setting.clip,
            setting.weight_decay, dense["theta"], optimizer["first"], optimizer["second"], optimizer["steps"],
            dense["mean"], self._scale(), told,
        )  # fmt: skip
        if lists := int(told[LISTS]):
            skipped, clipped, made = int(told[SKIPPED]), int(told[CLIPPED]), int(told[UPDATES])
            usual, moved = np.sqrt(told[[SQUARES, MOVES]] / max(1, made)).tolist()
            loss, auc = told[LOSS] / lists, told[AUC] / lists
            self.report = ListReport(lists, loss, auc, told[NORM], skipped, clipped, made, usual, moved)

    def _demand(self, x: np.ndarray) -> None:
        if x.shape[1] != self.inputs:  # a kernel would read past the end
            raise ValueError(f"features must have {self.inputs} columns, got {x.shape[1]}")

    def _scale(self) -> np.ndarray:
        scale: np.ndarray = np.float32(1.0) / np.sqrt(self._dense["variance"] + np.float32(1e-4))
        return scale

    def _standardise(self, x: np.ndarray) -> None:
        """Move the running moments towards those of these rows: the mean of all at first, then of the latest."""
        dense, rows = self._dense, self._optimizer["rows"]
        part = max(x.shape[0] / (rows[0] + x.shape[0]), _SLOWEST)
        mean, variance = dense["mean"].copy(), dense["variance"].copy()
        _move(x, part, rows[0] == 0, mean, variance)
        if np.isfinite(mean).all() and np.isfinite(variance).all():
            dense["mean"], dense["variance"] = mean, variance
            rows[0] += x.shape[0]

    def state(self) -> State:
        return {**self._dense, **self._optimizer}

    def restore(self, state: State) -> None:
        size = self._dense["theta"].size
        if state["theta"].size != size or state["mean"].size != self.inputs:
            given = state["theta"].size
            raise ValueError(f"a network of {size} parameters was given {given}: features or settings differ")
        self._dense = {name: state[name].copy() for name in self._dense}
        self._optimizer = {name: state[name].copy() for name in self._optimizer}

    def changes(self) -> State:
        """What predicting needs, whole; the optimizer stays behind."""
        return {name: array.copy() for name, array in self._dense.items()}

    def apply(self, changes: State) -> None:
        self._dense = {name: changes[name].copy() for name in self._dense}
