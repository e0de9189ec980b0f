"""Factorization machine: logistic regression that also learns how any two fields go together."""

import math
from dataclasses import dataclass, field

import numpy as np

from online_models.protocols import FieldBatch
from online_models.rankers.sanitize import Real, bounded, clipped, keys_by_field, probability, sound_rows
from online_models.state.embeddings import SQUARE_START, EmbeddingSettings, EmbeddingTable
from online_models.state.tables import State, joined, part_of
from stream.jit import kernel, summing_kernel

_SQUARE, _WEIGHT, _WEIGHT_SQUARE = 0, 1, 2  # what follows the factors in a row; squares are Adagrad's sums


@dataclass(frozen=True, slots=True)
class FMSettings:
    """The factors of an id are its row in an `EmbeddingTable`."""

    factors: EmbeddingSettings = field(default_factory=EmbeddingSettings)
    rate: float = 0.07  # Adagrad's, for factors
    weight_rate: float = 0.1  # Adagrad's, for weights
    clip: float = 10.0  # norm of one row's gradient

    def __post_init__(self) -> None:
        for name in ("rate", "weight_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")


@kernel
def _read(
    rows: np.ndarray, numbers: np.ndarray, of_ids: np.ndarray, of_numbers: np.ndarray, x: np.ndarray, own: np.ndarray
) -> None:
    """Copy what one example needs, ids first, then numbers; an id without a row is worth 0."""
    for j in range(rows.size):
        x[j] = rows[j] >= 0
        source, target = of_ids[max(rows[j], 0)], own[j]
        for k in range(target.size):
            target[k] = source[k]
    for j in range(numbers.size):
        x[rows.size + j] = bounded(numbers[j])
        source, target = of_numbers[j], own[rows.size + j]
        for k in range(target.size):
            target[k] = source[k]


@summing_kernel
def _logit(bias: Real, x: np.ndarray, own: np.ndarray, total: np.ndarray) -> np.float32:
    """Linear in the number of fields, as in Rendle's Lemma 3.1; `total` becomes the sum of all x_j v_j."""
    dim = total.size
    total[:] = 0
    logit, alone, together = np.float32(bias), np.float32(0), np.float32(0)
    for j in range(x.size):
        vector, square = own[j], np.float32(0)
        for k in range(dim):
            part = x[j] * vector[k]
            total[k] += part
            square += part * part
        alone += square
        logit += x[j] * vector[dim + _WEIGHT]
    for k in range(dim):
        together += total[k] * total[k]
    return logit + np.float32(0.5) * (together - alone)


@summing_kernel
def _slopes(x: np.ndarray, own: np.ndarray, total: np.ndarray, slopes: np.ndarray, norms: np.ndarray) -> np.float32:
    """The logit's slope by each v_j, and its squared norm; returns the squared norm of all slopes together."""
    whole = np.float32(1)  # the bias
    for j in range(x.size):
        vector, slope, norm = own[j], slopes[j], np.float32(0)
        for k in range(total.size):
            slope[k] = x[j] * (total[k] - x[j] * vector[k])
            norm += slope[k] * slope[k]
        norms[j] = norm
        whole += x[j] * x[j] + norm
    return whole


@kernel
def _step(
    gradient: Real, x: np.ndarray, own: np.ndarray, slopes: np.ndarray, norms: np.ndarray, rates: np.ndarray
) -> None:
    """Adagrad for weights; for factors row-wise Adagrad, whose one sum per row is of mean squares."""
    dim = slopes.shape[1]
    rate, weight_rate, share = rates[0] * gradient, rates[1] * gradient, np.float32(1) / np.float32(dim)
    for j in range(x.size):
        vector, slope = own[j], slopes[j]
        square = vector[dim + _SQUARE] + gradient * gradient * norms[j] * share
        weight_square = vector[dim + _WEIGHT_SQUARE] + gradient * gradient * x[j] * x[j]
        step = rate / np.sqrt(square)
        for k in range(dim):
            vector[k] -= step * slope[k]
        vector[dim + _SQUARE] = square
        vector[dim + _WEIGHT] -= weight_rate * x[j] / np.sqrt(weight_square)
        vector[dim + _WEIGHT_SQUARE] = weight_square


@kernel
def _write(rows: np.ndarray, of_ids: np.ndarray, of_numbers: np.ndarray, own: np.ndarray) -> None:
    for j in range(own.shape[0]):
        number = j - rows.size
        if number < 0 and rows[j] < 0:
            continue
        target, source = of_numbers[number] if number >= 0 else of_ids[rows[j]], own[j]
        for k in range(source.size):
            target[k] = source[k]


@kernel
def _predict(
    rows: np.ndarray,
    numbers: np.ndarray,
    of_ids: np.ndarray,
    of_numbers: np.ndarray,
    bias: np.ndarray,
    scores: np.ndarray,
) -> None:
    x = np.empty(rows.shape[1] + numbers.shape[1], np.float32)
    own = np.empty((x.size, of_ids.shape[1]), np.float32)
    total = np.empty(of_ids.shape[1] - _WEIGHT_SQUARE - 1, np.float32)
    for i in range(scores.size):
        _read(rows[i], numbers[i], of_ids, of_numbers, x, own)
        scores[i] = probability(_logit(np.float32(bias[0]), x, own, total))


@kernel
def _learn(
    rows: np.ndarray,
    numbers: np.ndarray,
    label: np.ndarray,
    importance: np.ndarray,
    of_ids: np.ndarray,
    of_numbers: np.ndarray,
    bias: np.ndarray,
    rates: np.ndarray,
    clip: float,
) -> None:
    """One pass over the rows in their order."""
    x = np.empty(rows.shape[1] + numbers.shape[1], np.float32)
    own = np.empty((x.size, of_ids.shape[1]), np.float32)
    total = np.empty(of_ids.shape[1] - _WEIGHT_SQUARE - 1, np.float32)
    slopes, norms = np.empty((x.size, total.size), np.float32), np.empty_like(x)
    for i in range(label.size):
        _read(rows[i], numbers[i], of_ids, of_numbers, x, own)
        error = probability(_logit(np.float32(bias[0]), x, own, total)) - label[i]
        square = _slopes(x, own, total, slopes, norms)
        gradient = np.float32(clipped(error * importance[i], square, clip))
        _step(gradient, x, own, slopes, norms, rates)
        _write(rows[i], of_ids, of_numbers, own)
        bias[1] += gradient * gradient
        bias[0] -= rates[1] * gradient / np.sqrt(bias[1])


class FactorizationMachine:
    """Weights, plus the dot product of the factors of every two fields and numbers; Adagrad, row by row.

    Rendle, "Factorization Machines" (ICDM 2010). Ids are rows of an `EmbeddingTable`: finding them costs a third of
    the time, but in a hashed array of their size one id would spoil all the factors of another. An id without a row
    (missing, never seen, or not seen often enough) takes no part.
    """

    def __init__(self, fields: int, numbers: int, settings: FMSettings = FMSettings()) -> None:
        self.settings = settings
        self.skipped = 0  # rows that were not sound
        self._ids = EmbeddingTable(settings.factors, extra=(0, SQUARE_START))
        rng, factors = np.random.default_rng(settings.factors.seed), settings.factors
        of_numbers = np.tile(np.array([0] * factors.dim + [SQUARE_START, 0, SQUARE_START], np.float32), (numbers, 1))
        of_numbers[:, : factors.dim] = rng.normal(0, factors.scale, (numbers, factors.dim))
        self._dense: State = {"numbers": of_numbers, "bias": np.array([0, SQUARE_START], np.float32)}
        self._rates = np.array([settings.rate, settings.weight_rate], np.float32)

    def predict(self, batch: FieldBatch) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        rows = self._ids.find(keys_by_field(batch.keys))
        scores = np.empty(len(batch), np.float32)
        _predict(rows, batch.numbers, self._ids.rows, self._dense["numbers"], self._dense["bias"], scores)
        return scores

    def learn(self, batch: FieldBatch) -> None:
        """One pass over the rows in their order; splitting a batch changes nothing."""
        sound = sound_rows(batch)
        self.skipped += len(batch) - len(sound)
        rows = self._ids.admit(keys_by_field(sound.keys), sound.now)
        parameters = self._ids.rows, self._dense["numbers"], self._dense["bias"]
        _learn(rows, sound.numbers, sound.label, sound.weight, *parameters, self._rates, self.settings.clip)

    def state(self) -> State:
        """Rows of ids, rows of numbers, and the bias; views."""
        return joined({"ids": self._ids.state(), "dense": self._dense})

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""
        self._ids.restore(part_of(state, "ids"))
        self._write_dense(part_of(state, "dense"))

    def changes(self) -> State:
        """Rows of ids seen since the last call, all rows of numbers, and the bias."""
        dense = {name: array.copy() for name, array in self._dense.items()}
        return joined({"ids": self._ids.changes(), "dense": dense})

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        self._ids.apply(part_of(changes, "ids"))
        self._write_dense(part_of(changes, "dense"))

    def _write_dense(self, state: State) -> None:
        for name, array in self._dense.items():
            array[:] = state[name]
