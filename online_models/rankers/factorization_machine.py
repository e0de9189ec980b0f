"""Factorization machine: logistic regression with an interaction of every two fields."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.protocols import FeatureRows
from online_models.rankers.embedding_model import SQUARE, WEIGHT, WEIGHT_SQUARE, EmbeddingModel
from online_models.rankers.sanitize import Real, clip_gradient, clip_value, clipped_sigmoid, valid_rows
from online_models.state.embeddings import SQUARE_START, EmbeddingSettings
from online_models.state.tables import State
from stream.jit import fastmath_kernel, kernel


@dataclass(frozen=True, slots=True)
class FMSettings:
    """Hyperparameters; the factors of an id are its row in an `EmbeddingTable`."""

    factors: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    rate: float = 0.07  # Adagrad's, for factors
    weight_rate: float = 0.1  # Adagrad's, for weights
    clip: float = 10.0  # norm of one row's gradient

    def __post_init__(self) -> None:
        for name in ("rate", "weight_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")


@kernel
def _gather(
    rows: np.ndarray,
    numbers: np.ndarray,
    id_rows: np.ndarray,
    number_rows: np.ndarray,
    x: np.ndarray,
    vectors: np.ndarray,
) -> None:
    """Copy the vectors of one example, ids first, then numbers; an id without a row counts 0."""
    for j in range(rows.size):
        x[j] = rows[j] >= 0
        source, target = id_rows[max(rows[j], 0)], vectors[j]
        for k in range(target.size):
            target[k] = source[k]
    for j in range(numbers.size):
        x[rows.size + j] = clip_value(numbers[j])
        source, target = number_rows[j], vectors[rows.size + j]
        for k in range(target.size):
            target[k] = source[k]


@fastmath_kernel
def _logit(bias: Real, x: np.ndarray, vectors: np.ndarray, total: np.ndarray) -> np.float32:
    """Logit in linear time (Rendle, Lemma 3.1); `total` becomes the sum of all x_j v_j."""
    dim = total.size
    total[:] = 0
    logit, sum_of_squares, square_of_sum = np.float32(bias), np.float32(0), np.float32(0)
    for j in range(x.size):
        vector, square = vectors[j], np.float32(0)
        for k in range(dim):
            part = x[j] * vector[k]
            total[k] += part
            square += part * part
        sum_of_squares += square
        logit += x[j] * vector[dim + WEIGHT]
    for k in range(dim):
        square_of_sum += total[k] * total[k]
    return logit + np.float32(0.5) * (square_of_sum - sum_of_squares)


@fastmath_kernel
def _logit_gradients(
    x: np.ndarray, vectors: np.ndarray, total: np.ndarray, gradients: np.ndarray, norms: np.ndarray
) -> np.float32:
    """Fill the derivative of the logit by each v_j, with norms; return the whole squared norm."""
    squared_norm = np.float32(1)  # of the bias
    for j in range(x.size):
        vector, gradient, norm = vectors[j], gradients[j], np.float32(0)
        for k in range(total.size):
            gradient[k] = x[j] * (total[k] - x[j] * vector[k])
            norm += gradient[k] * gradient[k]
        norms[j] = norm
        squared_norm += x[j] * x[j] + norm
    return squared_norm


@kernel
def _step(
    gradient: Real,
    x: np.ndarray,
    vectors: np.ndarray,
    logit_gradients: np.ndarray,
    norms: np.ndarray,
    rates: np.ndarray,
) -> None:
    """Update weights by Adagrad, factors by row-wise Adagrad: one sum of mean squares a row."""
    dim = logit_gradients.shape[1]
    rate, weight_rate, inverse_dim = rates[0] * gradient, rates[1] * gradient, np.float32(1) / np.float32(dim)
    for j in range(x.size):
        vector, logit_gradient = vectors[j], logit_gradients[j]
        square = vector[dim + SQUARE] + gradient * gradient * norms[j] * inverse_dim
        weight_square = vector[dim + WEIGHT_SQUARE] + gradient * gradient * x[j] * x[j]
        step = rate / np.sqrt(square)
        for k in range(dim):
            vector[k] -= step * logit_gradient[k]
        vector[dim + SQUARE] = square
        vector[dim + WEIGHT] -= weight_rate * x[j] / np.sqrt(weight_square)
        vector[dim + WEIGHT_SQUARE] = weight_square


@kernel
def _scatter(rows: np.ndarray, id_rows: np.ndarray, number_rows: np.ndarray, vectors: np.ndarray) -> None:
    for j in range(vectors.shape[0]):
        number = j - rows.size
        if number < 0 and rows[j] < 0:
            continue
        target, source = number_rows[number] if number >= 0 else id_rows[rows[j]], vectors[j]
        for k in range(source.size):
            target[k] = source[k]


@kernel
def _predict(
    rows: np.ndarray,
    numbers: np.ndarray,
    id_rows: np.ndarray,
    number_rows: np.ndarray,
    bias: np.ndarray,
    scores: np.ndarray,
) -> None:
    x = np.empty(rows.shape[1] + numbers.shape[1], np.float32)
    vectors = np.empty((x.size, id_rows.shape[1]), np.float32)
    total = np.empty(id_rows.shape[1] - WEIGHT_SQUARE - 1, np.float32)
    for i in range(scores.size):
        _gather(rows[i], numbers[i], id_rows, number_rows, x, vectors)
        scores[i] = clipped_sigmoid(_logit(np.float32(bias[0]), x, vectors, total))


@kernel
def _learn(
    rows: np.ndarray,
    numbers: np.ndarray,
    label: np.ndarray,
    importance: np.ndarray,
    id_rows: np.ndarray,
    number_rows: np.ndarray,
    bias: np.ndarray,
    rates: np.ndarray,
    clip: float,
) -> None:
    """One pass over the rows in their order."""
    x = np.empty(rows.shape[1] + numbers.shape[1], np.float32)
    vectors = np.empty((x.size, id_rows.shape[1]), np.float32)
    total = np.empty(id_rows.shape[1] - WEIGHT_SQUARE - 1, np.float32)
    logit_gradients, norms = np.empty((x.size, total.size), np.float32), np.empty_like(x)
    for i in range(label.size):
        _gather(rows[i], numbers[i], id_rows, number_rows, x, vectors)
        error = clipped_sigmoid(_logit(np.float32(bias[0]), x, vectors, total)) - label[i]
        square = _logit_gradients(x, vectors, total, logit_gradients, norms)
        gradient = np.float32(clip_gradient(error * importance[i], square, clip))
        _step(gradient, x, vectors, logit_gradients, norms, rates)
        _scatter(rows[i], id_rows, number_rows, vectors)
        bias[1] += gradient * gradient
        bias[0] -= rates[1] * gradient / np.sqrt(bias[1])


class FactorizationMachine(EmbeddingModel):
    """Weights, plus dot products of the factors of every two fields and numbers.

    Trained by Adagrad, row by row. Rendle, "Factorization Machines" (ICDM 2010). Ids are rows of an `EmbeddingTable`.
    The lookup takes a third of the time, but in a hashed array of that size ids would overwrite each other's factors.
    An id without a row (missing, unseen, or not frequent enough) takes no part.
    """

    def __init__(self, fields: int, numbers: int, settings: FMSettings = FMSettings()) -> None:
        rng, factors = np.random.default_rng(settings.factors.seed), settings.factors
        number_rows = np.tile(np.array([0] * factors.dim + [SQUARE_START, 0, SQUARE_START], np.float32), (numbers, 1))
        number_rows[:, : factors.dim] = rng.normal(0, factors.scale, (numbers, factors.dim))
        dense: State = {"numbers": number_rows, "bias": np.array([0, SQUARE_START], np.float32)}
        super().__init__(factors, dense)
        self.settings = settings
        self._rates = np.array([settings.rate, settings.weight_rate], np.float32)

    def predict(self, batch: FeatureRows) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        rows, scores = self._lookup(batch.keys), np.empty(len(batch), np.float32)
        _predict(rows, batch.numbers, self._ids.rows, self._dense["numbers"], self._dense["bias"], scores)
        return scores

    def learn(self, batch: FeatureRows) -> None:
        """One pass over the rows in their order; splitting a batch changes nothing."""
        valid = valid_rows(batch)
        self.skipped += len(batch) - len(valid)
        rows = self._add_keys(valid.keys, valid.now)
        parameters = self._ids.rows, self._dense["numbers"], self._dense["bias"]
        _learn(rows, valid.numbers, valid.label, valid.weight, *parameters, self._rates, self.settings.clip)
