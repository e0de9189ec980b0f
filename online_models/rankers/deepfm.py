"""DeepFM: a factorization machine beside a small network over the same id vectors."""

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from online_models.protocols import FeatureRows
from online_models.rankers.embedding_model import SQUARE, WEIGHT, WEIGHT_SQUARE, EmbeddingModel
from online_models.rankers.sanitize import Real, clip_gradient, clip_value, clipped_sigmoid, valid_rows
from online_models.state.embeddings import EmbeddingSettings
from online_models.state.tables import State
from stream.jit import fastmath_kernel, kernel

_MEAN_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8  # Adam's, as published

Layers = list[tuple[np.ndarray, np.ndarray]]  # weights (inputs, outputs) and biases (outputs,) of each


@dataclass(frozen=True, slots=True)
class DeepFMSettings:
    """Hyperparameters; the vector of an id is its row in an `EmbeddingTable`."""

    vectors: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    hidden: tuple[int, ...] = (64, 32)
    batch: int = 256  # rows per step
    rate: float = 0.07  # Adagrad's, for vectors
    weight_rate: float = 0.1  # Adagrad's, for the weights of ids
    dense_rate: float = 0.002  # Adam's, for the network
    clip: float = 10.0  # greatest norm of a row's gradient by its ids, and of a step's gradient by the network

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"hidden must be at least one positive width, got {self.hidden}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        for name in ("rate", "weight_rate", "dense_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")


class Inputs(NamedTuple):
    """Inputs of the network for n rows; an id without a row counts 0."""

    inputs: np.ndarray  # (n, fields * dim + numbers) float32
    vector_sums: np.ndarray  # (n, dim) float32, sums of a row's vectors
    logits: np.ndarray  # (n,) float32, of the factorization machine


@fastmath_kernel
def _gather_inputs(rows: np.ndarray, numbers: np.ndarray, id_rows: np.ndarray, out: Inputs) -> None:
    dim = out.vector_sums.shape[1]
    for i in range(rows.shape[0]):
        inputs, total, logit = out.inputs[i], out.vector_sums[i], np.float32(0)
        for j in range(rows.shape[1]):
            if rows[i, j] < 0:
                continue
            row, first, sum_of_squares = id_rows[rows[i, j]], j * dim, np.float32(0)
            for k in range(dim):
                inputs[first + k] = row[k]
                total[k] += row[k]
                sum_of_squares += row[k] * row[k]
            logit += row[dim + WEIGHT] - np.float32(0.5) * sum_of_squares
        square_of_sum = np.float32(0)
        for k in range(dim):
            square_of_sum += total[k] * total[k]
        out.logits[i] = logit + np.float32(0.5) * square_of_sum
        for j in range(numbers.shape[1]):
            inputs[rows.shape[1] * dim + j] = clip_value(numbers[i, j])


@fastmath_kernel
def _vector_gradients(
    gradient: Real, inputs: np.ndarray, total: np.ndarray, input_gradients: np.ndarray, norms: np.ndarray
) -> np.float32:
    """Add the factorization machine's gradients by vectors; fill and sum up squared norms."""
    squared_norm, dim = np.float32(0), total.size
    for j in range(norms.size):
        first, norm = j * dim, np.float32(0)
        for k in range(dim):
            g = input_gradients[first + k] + gradient * (total[k] - inputs[first + k])
            input_gradients[first + k] = g
            norm += g * g
        norms[j] = norm
        squared_norm += norm + gradient * gradient
    return squared_norm


@kernel
def _update_rows(
    rows: np.ndarray,
    gradient: np.ndarray,
    inputs: Inputs,
    input_gradients: np.ndarray,
    id_rows: np.ndarray,
    rates: np.ndarray,
    clip: float,
) -> int:
    """Update vectors by row-wise Adagrad and weights by Adagrad.

    Returns the number of rows without finite gradient. `input_gradients` are those through the network; the
    factorization machine's part is added here.
    """
    dim, skipped, norms = inputs.vector_sums.shape[1], 0, np.empty(rows.shape[1], np.float32)
    inverse_dim = np.float32(1) / np.float32(dim)
    for i in range(rows.shape[0]):
        row_gradients = input_gradients[i]
        squared_norm = _vector_gradients(gradient[i], inputs.inputs[i], inputs.vector_sums[i], row_gradients, norms)
        if not squared_norm < np.inf:
            skipped += 1
            continue
        scale = np.float32(clip_gradient(1.0, squared_norm, clip))
        g = scale * gradient[i]
        for j in range(rows.shape[1]):
            if rows[i, j] < 0:
                continue
            row, first = id_rows[rows[i, j]], j * dim
            square = row[dim + SQUARE] + scale * scale * norms[j] * inverse_dim
            weight_square = row[dim + WEIGHT_SQUARE] + g * g
            step = rates[0] * scale / np.sqrt(square)
            for k in range(dim):
                row[k] -= step * row_gradients[first + k]
            row[dim + SQUARE], row[dim + WEIGHT_SQUARE] = square, weight_square
            row[dim + WEIGHT] -= rates[1] * g / np.sqrt(weight_square)
    return skipped


@kernel
def _apply_sigmoid(logits: np.ndarray, scores: np.ndarray) -> None:
    for i in range(logits.size):
        scores[i] = clipped_sigmoid(logits[i])


@kernel
def _adam_step(
    weights: np.ndarray, mean: np.ndarray, square: np.ndarray, gradient: np.ndarray, rate: float, step: float
) -> None:
    """One step of Adam (Kingma and Ba 2015, Algorithm 1); `step` counts from 1."""
    per_mean = np.float32(rate / (1 - _MEAN_DECAY**step))
    per_square = np.float32(1 / (1 - _SQUARE_DECAY**step))
    keep_mean, keep_square = np.float32(_MEAN_DECAY), np.float32(_SQUARE_DECAY)
    add_mean, add_square, epsilon = np.float32(1 - _MEAN_DECAY), np.float32(1 - _SQUARE_DECAY), np.float32(_EPSILON)
    for i in range(weights.size):
        mean[i] = keep_mean * mean[i] + add_mean * gradient[i]
        square[i] = keep_square * square[i] + add_square * gradient[i] * gradient[i]
        weights[i] -= per_mean * mean[i] / (np.sqrt(square[i] * per_square) + epsilon)


def split_layers(flat: np.ndarray, widths: tuple[int, ...]) -> Layers:
    """Views of a flat array as the weights and biases of layers from width to width."""
    layers, offset = [], 0
    for inputs, outputs in pairwise(widths):
        bias = offset + inputs * outputs
        layers.append((flat[offset:bias].reshape(inputs, outputs), flat[bias : bias + outputs]))
        offset = bias + outputs
    return layers


def forward(layers: Layers, inputs: np.ndarray) -> list[np.ndarray]:
    """Inputs of each layer, then the output of the last, (n, 1); ReLU between layers."""
    values = [inputs]
    for weights, bias in layers[:-1]:
        values.append(np.maximum(values[-1] @ weights + bias, 0))
    weights, bias = layers[-1]
    return [*values, values[-1] @ weights + bias]


def backward(layers: Layers, values: list[np.ndarray], gradient: np.ndarray, layer_gradients: Layers) -> np.ndarray:
    """Gradient by the inputs, (n, inputs), from (n,) by the output; fills `layer_gradients`."""
    delta = gradient[:, None]
    for i in reversed(range(len(layers))):
        layer_gradients[i][0][:] = values[i].T @ delta
        layer_gradients[i][1][:] = delta.sum(0)
        delta = delta @ layers[i][0].T
        if i:
            delta *= values[i] > 0
    return delta


class DeepFM(EmbeddingModel):
    """Sum of id weights, dot products of id vectors, and a ReLU network, as a logit.

    The network reads vectors and numbers. Guo et al., "DeepFM: A Factorization-Machine based Neural Network for CTR
    Prediction" (IJCAI 2017). Learns in steps of `settings.batch` rows: ids by Adagrad with each row's own gradient, the
    network by Adam with the mean one.

    Ids are rows of an `EmbeddingTable`; the lookup takes a tenth of the time. The matrix products are numpy's, so the
    bits repeat for the same BLAS library and number of threads; OPENBLAS_NUM_THREADS=1 keeps it on one core.
    """

    def __init__(self, fields: int, numbers: int, settings: DeepFMSettings = DeepFMSettings()) -> None:
        self._widths = (fields * settings.vectors.dim + numbers, *settings.hidden, 1)
        size = sum((a + 1) * b for a, b in pairwise(self._widths))
        dense: State = {name: np.zeros(size, np.float32) for name in ("weights", "mean", "square")}
        super().__init__(settings.vectors, dense | {"step": np.zeros(1, np.int64)})
        self.settings = settings
        self._gradient = np.zeros(size, np.float32)
        self._layers = split_layers(self._dense["weights"], self._widths)
        self._layer_gradients = split_layers(self._gradient, self._widths)
        self._rates = np.array([settings.rate, settings.weight_rate], np.float32)
        rng = np.random.default_rng(settings.vectors.seed)
        for weights, _ in self._layers[:-1]:  # the last starts at 0: at first the network adds nothing
            weights[:] = rng.normal(0, math.sqrt(2 / weights.shape[0]), weights.shape)

    def predict(self, batch: FeatureRows) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        rows = self._lookup(batch.keys)
        scores = np.empty(len(batch), np.float32)
        for first in range(0, len(batch), self.settings.batch):
            part = slice(first, first + self.settings.batch)
            inputs = self._gather_inputs(rows[part], batch.numbers[part])
            _apply_sigmoid(inputs.logits + forward(self._layers, inputs.inputs)[-1][:, 0], scores[part])
        return scores

    def learn(self, batch: FeatureRows) -> None:
        """Train in steps of at most `settings.batch` rows."""
        valid = valid_rows(batch)
        self.skipped += len(batch) - len(valid)
        rows = self._add_keys(valid.keys, valid.now)
        for first in range(0, len(valid), self.settings.batch):
            part = slice(first, first + self.settings.batch)
            self._step(rows[part], valid.numbers[part], valid.label[part], valid.weight[part])

    def _gather_inputs(self, rows: np.ndarray, numbers: np.ndarray) -> Inputs:
        n, dim = rows.shape[0], self.settings.vectors.dim
        inputs = Inputs(
            np.zeros((n, self._widths[0]), np.float32), np.zeros((n, dim), np.float32), np.zeros(n, np.float32)
        )
        _gather_inputs(rows, numbers, self._ids.rows, inputs)
        return inputs

    def _step(self, rows: np.ndarray, numbers: np.ndarray, label: np.ndarray, weight: np.ndarray) -> None:
        inputs, scores = self._gather_inputs(rows, numbers), np.empty(label.size, np.float32)
        values = forward(self._layers, inputs.inputs)
        _apply_sigmoid(inputs.logits + values[-1][:, 0], scores)
        # The derivative of each row by its logit; its whole gradient is clipped once it is known.
        gradient = np.clip((scores - label) * weight, -self.settings.clip, self.settings.clip)
        input_gradients = backward(self._layers, values, gradient, self._layer_gradients)
        if not self._step_network(label.size):
            self.skipped += label.size
            return
        ids, clip = self._ids.rows, self.settings.clip
        self.skipped += _update_rows(rows, gradient, inputs, input_gradients, ids, self._rates, clip)

    def _step_network(self, rows: int) -> bool:
        """Clip the gradient and take a step; return False, without a step, if it is not finite."""
        self._gradient /= np.float32(rows)
        norm = float(np.sqrt(np.dot(self._gradient, self._gradient)))
        if not math.isfinite(norm):
            return False
        if norm > self.settings.clip:
            self._gradient *= np.float32(self.settings.clip / norm)
        dense = self._dense
        dense["step"] += 1
        step, rate = float(dense["step"][0]), self.settings.dense_rate
        _adam_step(dense["weights"], dense["mean"], dense["square"], self._gradient, rate, step)
        return True
