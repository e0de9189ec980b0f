"""DeepFM: a factorization machine and a small network that share the vectors of ids."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from online_models.protocols import FieldBatch
from online_models.rankers.sanitize import Real, bounded, clipped, keys_by_field, probability, sound_rows
from online_models.state.embeddings import SQUARE_START, EmbeddingSettings, EmbeddingTable
from online_models.state.tables import State, joined, part_of
from stream.jit import kernel, summing_kernel

_SQUARE, _WEIGHT, _WEIGHT_SQUARE = 0, 1, 2  # what follows the vector in a row; squares are Adagrad's sums
_MEAN_DECAY, _SQUARE_DECAY, _TINY = 0.9, 0.999, 1e-8  # Adam's

Layers = list[tuple[np.ndarray, np.ndarray]]  # weights (inputs, outputs) and biases (outputs,) of each


@dataclass(frozen=True, slots=True)
class DeepSettings:
    """The vector of an id is its row in an `EmbeddingTable`."""

    vectors: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    hidden: tuple[int, ...] = (64, 32)
    batch: int = 256  # rows to one step
    rate: float = 0.07  # Adagrad's, for vectors
    weight_rate: float = 0.1  # Adagrad's, for the weights of ids
    dense_rate: float = 0.002  # Adam's, for the network
    clip: float = 10.0  # norm of one row's gradient by its ids, and of one step's by the network

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be at least one positive width, got {self.hidden}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        for name in ("rate", "weight_rate", "dense_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")


class Read(NamedTuple):
    """What n rows say before the network has seen them; an id without a row is worth 0."""

    inputs: np.ndarray  # (n, fields * dim + numbers) float32
    totals: np.ndarray  # (n, dim) float32, sums of a row's vectors
    logits: np.ndarray  # (n,) float32, the factorization machine's


@summing_kernel
def _read(rows: np.ndarray, numbers: np.ndarray, of_ids: np.ndarray, read: Read) -> None:
    dim = read.totals.shape[1]
    for i in range(rows.shape[0]):
        inputs, total, logit = read.inputs[i], read.totals[i], np.float32(0)
        for j in range(rows.shape[1]):
            if rows[i, j] < 0:
                continue
            row, first, alone = of_ids[rows[i, j]], j * dim, np.float32(0)
            for k in range(dim):
                inputs[first + k] = row[k]
                total[k] += row[k]
                alone += row[k] * row[k]
            logit += row[dim + _WEIGHT] - np.float32(0.5) * alone
        together = np.float32(0)
        for k in range(dim):
            together += total[k] * total[k]
        read.logits[i] = logit + np.float32(0.5) * together
        for j in range(numbers.shape[1]):
            inputs[rows.shape[1] * dim + j] = bounded(numbers[i, j])


@summing_kernel
def _slopes(
    gradient: Real, inputs: np.ndarray, total: np.ndarray, through: np.ndarray, norms: np.ndarray
) -> np.float32:
    """Turn slopes through the network into whole ones by vectors, with their squared norms; returns the sum of all."""
    whole, dim = np.float32(0), total.size
    for j in range(norms.size):
        first, norm = j * dim, np.float32(0)
        for k in range(dim):
            slope = through[first + k] + gradient * (total[k] - inputs[first + k])
            through[first + k] = slope
            norm += slope * slope
        norms[j] = norm
        whole += norm + gradient * gradient
    return whole


@kernel
def _write(
    rows: np.ndarray,
    gradient: np.ndarray,
    read: Read,
    through: np.ndarray,
    of_ids: np.ndarray,
    rates: np.ndarray,
    clip: float,
) -> int:
    """Row-wise Adagrad for vectors, Adagrad for weights, row after row; how many rows had no finite gradient.

    `through` is the loss's slope by the inputs through the network; the factorization machine's own is added here.
    """
    dim, skipped, norms = read.totals.shape[1], 0, np.empty(rows.shape[1], np.float32)
    share = np.float32(1) / np.float32(dim)
    for i in range(rows.shape[0]):
        slopes = through[i]
        whole = _slopes(gradient[i], read.inputs[i], read.totals[i], slopes, norms)
        if not whole < np.inf:
            skipped += 1
            continue
        scale = np.float32(clipped(1.0, whole, clip))
        g = scale * gradient[i]
        for j in range(rows.shape[1]):
            if rows[i, j] < 0:
                continue
            row, first = of_ids[rows[i, j]], j * dim
            square = row[dim + _SQUARE] + scale * scale * norms[j] * share
            weight_square = row[dim + _WEIGHT_SQUARE] + g * g
            step = rates[0] * scale / np.sqrt(square)
            for k in range(dim):
                row[k] -= step * slopes[first + k]
            row[dim + _SQUARE], row[dim + _WEIGHT_SQUARE] = square, weight_square
            row[dim + _WEIGHT] -= rates[1] * g / np.sqrt(weight_square)
    return skipped


@kernel
def _finish(logits: np.ndarray, scores: np.ndarray) -> None:
    for i in range(logits.size):
        scores[i] = probability(logits[i])


@kernel
def _adam(
    weights: np.ndarray, mean: np.ndarray, square: np.ndarray, gradient: np.ndarray, rate: float, step: float
) -> None:
    """Kingma and Ba 2015, Algorithm 1, for one step; `step` counts from 1."""
    per_mean = np.float32(rate / (1 - _MEAN_DECAY**step))
    per_square = np.float32(1 / (1 - _SQUARE_DECAY**step))
    keep_mean, keep_square = np.float32(_MEAN_DECAY), np.float32(_SQUARE_DECAY)
    add_mean, add_square, tiny = np.float32(1 - _MEAN_DECAY), np.float32(1 - _SQUARE_DECAY), np.float32(_TINY)
    for i in range(weights.size):
        mean[i] = keep_mean * mean[i] + add_mean * gradient[i]
        square[i] = keep_square * square[i] + add_square * gradient[i] * gradient[i]
        weights[i] -= per_mean * mean[i] / (np.sqrt(square[i] * per_square) + tiny)


def layers_of(flat: np.ndarray, widths: tuple[int, ...]) -> Layers:
    """Views of one flat array as the weights and biases of layers from width to width."""
    layers, at = [], 0
    for inputs, outputs in pairwise(widths):
        bias = at + inputs * outputs
        layers.append((flat[at:bias].reshape(inputs, outputs), flat[bias : bias + outputs]))
        at = bias + outputs
    return layers


def forward(layers: Layers, inputs: np.ndarray) -> list[np.ndarray]:
    """What goes into each layer, and last what comes out of the last, (n, 1); ReLU between layers."""
    values = [inputs]
    for weights, bias in layers[:-1]:
        values.append(np.maximum(values[-1] @ weights + bias, 0))
    weights, bias = layers[-1]
    return [*values, values[-1] @ weights + bias]


def backward(layers: Layers, values: list[np.ndarray], gradient: np.ndarray, into: Layers) -> np.ndarray:
    """The loss's slopes by the inputs, (n, inputs), from those by the output, (n,); `into` gets those by the layers."""
    slope = gradient[:, None]
    for i in reversed(range(len(layers))):
        into[i][0][:] = values[i].T @ slope
        into[i][1][:] = slope.sum(0)
        slope = slope @ layers[i][0].T
        if i:
            slope *= values[i] > 0
    return slope


class DeepFM:
    """Weights of ids, dot products of their vectors, and a ReLU network over vectors and numbers, summed to a logit.

    Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR Prediction" (IJCAI 2017). Learns in
    steps of `settings.batch` rows: ids by Adagrad with each row's own gradient, the network by Adam with the mean one.

    Ids are rows of an `EmbeddingTable`: finding them is a tenth of the time. The matrix products are numpy's, so the
    bits repeat for the same BLAS library and number of threads; OPENBLAS_NUM_THREADS=1 keeps it on one core.
    """

    def __init__(self, fields: int, numbers: int, settings: DeepSettings = DeepSettings()) -> None:
        self.settings = settings
        self.skipped = 0  # rows that were not sound, or had no finite gradient
        self._ids = EmbeddingTable(settings.vectors, extra=(0, SQUARE_START))
        self._widths = (fields * settings.vectors.dim + numbers, *settings.hidden, 1)
        size = sum((a + 1) * b for a, b in pairwise(self._widths))
        self._dense = {name: np.zeros(size, np.float32) for name in ("weights", "mean", "square")}
        self._dense["step"] = np.zeros(1, np.int64)
        self._gradient = np.zeros(size, np.float32)
        self._layers = layers_of(self._dense["weights"], self._widths)
        self._slopes = layers_of(self._gradient, self._widths)
        self._rates = np.array([settings.rate, settings.weight_rate], np.float32)
        rng = np.random.default_rng(settings.vectors.seed)
        for weights, _ in self._layers[:-1]:  # the last one starts at 0: at first the network says nothing
            weights[:] = rng.normal(0, math.sqrt(2 / weights.shape[0]), weights.shape)

    def predict(self, batch: FieldBatch) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        rows = self._ids.find(keys_by_field(batch.keys))
        scores = np.empty(len(batch), np.float32)
        for first in range(0, len(batch), self.settings.batch):
            part = slice(first, first + self.settings.batch)
            read = self._read(rows[part], batch.numbers[part])
            _finish(read.logits + forward(self._layers, read.inputs)[-1][:, 0], scores[part])
        return scores

    def learn(self, batch: FieldBatch) -> None:
        """Steps of at most `settings.batch` rows, each from what the step before it left."""
        sound = sound_rows(batch)
        self.skipped += len(batch) - len(sound)
        rows = self._ids.admit(keys_by_field(sound.keys), sound.now)
        for first in range(0, len(sound), self.settings.batch):
            part = slice(first, first + self.settings.batch)
            self._step(rows[part], sound.numbers[part], sound.label[part], sound.weight[part])

    def _read(self, rows: np.ndarray, numbers: np.ndarray) -> Read:
        n, dim = rows.shape[0], self.settings.vectors.dim
        read = Read(np.zeros((n, self._widths[0]), np.float32), np.zeros((n, dim), np.float32), np.zeros(n, np.float32))
        _read(rows, numbers, self._ids.rows, read)
        return read

    def _step(self, rows: np.ndarray, numbers: np.ndarray, label: np.ndarray, weight: np.ndarray) -> None:
        read, scores = self._read(rows, numbers), np.empty(label.size, np.float32)
        values = forward(self._layers, read.inputs)
        _finish(read.logits + values[-1][:, 0], scores)
        # A row's derivative by its logit; the rest of its gradient is clipped when it is known.
        gradient = np.clip((scores - label) * weight, -self.settings.clip, self.settings.clip)
        through = backward(self._layers, values, gradient, self._slopes)
        if not self._step_network(label.size):
            self.skipped += label.size
            return
        ids, clip = self._ids.rows, self.settings.clip
        self.skipped += _write(rows, gradient, read, through, ids, self._rates, clip)

    def _step_network(self, rows: int) -> bool:
        """Clip and take the step; no step and False if the gradient is not finite."""
        self._gradient /= np.float32(rows)
        norm = float(np.sqrt(np.dot(self._gradient, self._gradient)))
        if not math.isfinite(norm):
            return False
        if norm > self.settings.clip:
            self._gradient *= np.float32(self.settings.clip / norm)
        dense = self._dense
        dense["step"] += 1
        step, rate = float(dense["step"][0]), self.settings.dense_rate
        _adam(dense["weights"], dense["mean"], dense["square"], self._gradient, rate, step)
        return True

    def state(self) -> State:
        """Rows of ids, and the network with Adam's means; views."""
        return joined({"ids": self._ids.state(), "dense": self._dense})

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""
        self._ids.restore(part_of(state, "ids"))
        self._write_dense(part_of(state, "dense"))

    def changes(self) -> State:
        """Rows of ids seen since the last call, and the whole network."""
        dense = {name: array.copy() for name, array in self._dense.items()}
        return joined({"ids": self._ids.changes(), "dense": dense})

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        self._ids.apply(part_of(changes, "ids"))
        self._write_dense(part_of(changes, "dense"))

    def _write_dense(self, state: State) -> None:
        for name, array in self._dense.items():
            array[:] = state[name]
