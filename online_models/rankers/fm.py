"""Factorization machine: logistic regression that also learns how any two fields go together."""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from online_models.embeddings import SQUARE_START, EmbeddingOptions, EmbeddingTable
from online_models.learners import FieldBatch
from online_models.rankers.rows import bounded, clipped, keys_by_field, probability, sound
from online_models.tables import Column, State, joined, part_of
from stream.compiled import kernel, summing_kernel


@dataclass(frozen=True, slots=True)
class FMOptions:
    """The factors of an id are its row in an `EmbeddingTable`."""

    factors: EmbeddingOptions = field(default_factory=EmbeddingOptions)
    rate: float = 0.07  # Adagrad's, for factors
    weight_rate: float = 0.1  # Adagrad's, for weights
    clip: float = 10.0  # norm of one row's gradient

    def __post_init__(self) -> None:
        for name in ("rate", "weight_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")


class Parameters(NamedTuple):
    """What kernels read and write: one row per id or per number; the bias is the last weight of the numbers."""

    vector: np.ndarray  # (rows, dim) float32, factors
    square: np.ndarray  # (rows,) float32, their Adagrad sum
    weight: np.ndarray  # (rows,) float32
    weight_square: np.ndarray  # (rows,) float32


@kernel
def _working_copy(rows: int, dim: int) -> Parameters:
    return Parameters(
        np.zeros((rows, dim), np.float32),
        np.ones(rows, np.float32),
        np.zeros(rows, np.float32),
        np.ones(rows, np.float32),
    )


@kernel
def _copy(source: Parameters, row: int, target: Parameters, to: int) -> None:
    target.square[to] = source.square[row]
    target.weight[to] = source.weight[row]
    target.weight_square[to] = source.weight_square[row]
    vector, copy = source.vector[row], target.vector[to]
    for k in range(copy.size):
        copy[k] = vector[k]


@kernel
def _read(
    rows: np.ndarray, numbers: np.ndarray, of_ids: Parameters, of_numbers: Parameters, x: np.ndarray, own: Parameters
) -> None:
    """Collect what one row needs, ids first, then numbers; an id without a row is worth 0."""
    for j in range(rows.size):
        x[j] = rows[j] >= 0
        if rows[j] >= 0:
            _copy(of_ids, rows[j], own, j)
    for j in range(numbers.size):
        x[rows.size + j] = bounded(numbers[j])
        _copy(of_numbers, j, own, rows.size + j)


@kernel
def _write(rows: np.ndarray, of_ids: Parameters, of_numbers: Parameters, own: Parameters) -> None:
    for j in range(rows.size):
        if rows[j] >= 0:
            _copy(own, j, of_ids, rows[j])
    for j in range(rows.size, own.weight.size):
        _copy(own, j, of_numbers, j - rows.size)


@summing_kernel
def _logit(bias: float, x: np.ndarray, own: Parameters, total: np.ndarray) -> float:
    """Linear in the number of fields, as in Rendle's Lemma 3.1; `total` becomes the sum of all x_j v_j."""
    total[:] = 0
    logit, alone, together = np.float32(bias), np.float32(0), np.float32(0)
    for j in range(x.size):
        logit += own.weight[j] * x[j]
        vector, square = own.vector[j], np.float32(0)
        for k in range(total.size):
            part = x[j] * vector[k]
            total[k] += part
            square += part * part
        alone += square
    for k in range(total.size):
        together += total[k] * total[k]
    return logit + np.float32(0.5) * (together - alone)


@summing_kernel
def _slopes(x: np.ndarray, own: Parameters, total: np.ndarray, slopes: np.ndarray, norms: np.ndarray) -> float:
    """The logit's slope by each v_j, and its squared norm; returns the squared norm of all slopes together."""
    whole = np.float32(1)  # the bias
    for j in range(x.size):
        vector, slope, norm = own.vector[j], slopes[j], np.float32(0)
        for k in range(total.size):
            slope[k] = x[j] * (total[k] - x[j] * vector[k])
            norm += slope[k] * slope[k]
        norms[j] = norm
        whole += x[j] * x[j] + norm
    return whole


@kernel
def _step(
    gradient: float, x: np.ndarray, own: Parameters, slopes: np.ndarray, norms: np.ndarray, rates: np.ndarray
) -> None:
    """Adagrad for weights; for factors row-wise Adagrad, whose one sum per row is of mean squares."""
    rate, weight_rate = rates[0] * gradient, rates[1] * gradient
    share = gradient * gradient / np.float32(slopes.shape[1])
    for j in range(x.size):
        own.weight_square[j] += gradient * gradient * x[j] * x[j]
        own.weight[j] -= weight_rate * x[j] / np.sqrt(own.weight_square[j])
        own.square[j] += share * norms[j]
        norms[j] = rate / np.sqrt(own.square[j])
    for j in range(x.size):
        vector, slope, step = own.vector[j], slopes[j], norms[j]
        for k in range(slope.size):
            vector[k] -= step * slope[k]


@kernel
def _predict(
    rows: np.ndarray, numbers: np.ndarray, of_ids: Parameters, of_numbers: Parameters, scores: np.ndarray
) -> None:
    x = np.empty(rows.shape[1] + numbers.shape[1], np.float32)
    own, total = _working_copy(x.size, of_ids.vector.shape[1]), np.empty_like(of_ids.vector[0])
    for i in range(scores.size):
        _read(rows[i], numbers[i], of_ids, of_numbers, x, own)
        scores[i] = probability(_logit(of_numbers.weight[-1], x, own, total))


@kernel
def _learn(
    rows: np.ndarray,
    numbers: np.ndarray,
    label: np.ndarray,
    importance: np.ndarray,
    of_ids: Parameters,
    of_numbers: Parameters,
    rates: np.ndarray,
    clip: float,
) -> int:
    """One pass over the rows in their order; how many were not sound."""
    skipped, bias = 0, numbers.shape[1]
    x = np.empty(rows.shape[1] + bias, np.float32)
    own, total = _working_copy(x.size, of_ids.vector.shape[1]), np.empty_like(of_ids.vector[0])
    slopes, norms = np.empty_like(own.vector), np.empty_like(x)
    for i in range(label.size):
        if not sound(numbers[i], label[i], importance[i]):
            skipped += 1
            continue
        _read(rows[i], numbers[i], of_ids, of_numbers, x, own)
        error = probability(_logit(of_numbers.weight[bias], x, own, total)) - label[i]
        square = _slopes(x, own, total, slopes, norms)
        gradient = np.float32(clipped(error * importance[i], square, clip))
        _step(gradient, x, own, slopes, norms, rates)
        _write(rows[i], of_ids, of_numbers, own)
        of_numbers.weight_square[bias] += gradient * gradient
        of_numbers.weight[bias] -= rates[1] * gradient / np.sqrt(of_numbers.weight_square[bias])
    return skipped


class FactorizationMachine:
    """Weights, plus the dot product of the factors of every two fields and numbers; Adagrad, row by row.

    Rendle, "Factorization Machines" (ICDM 2010). Ids are rows of an `EmbeddingTable`: finding them costs a fifth of
    the time, and in a hashed array of their size one id would spoil all the factors of another. An id without a row
    (missing, never seen, or not seen often enough) takes no part.
    """

    def __init__(self, fields: int, numbers: int, options: FMOptions = FMOptions()) -> None:
        self.options = options
        self.skipped = 0  # rows that were not sound
        columns = {"weight": Column("float32"), "weight_square": Column("float32", fill=SQUARE_START)}
        self._ids = EmbeddingTable(options.factors, columns)
        rng = np.random.default_rng(options.factors.seed)
        self._numbers = Parameters(
            vector=rng.normal(0, options.factors.scale, (numbers, options.factors.dim)).astype(np.float32),
            square=np.full(numbers, SQUARE_START, np.float32),
            weight=np.zeros(numbers + 1, np.float32),
            weight_square=np.full(numbers + 1, SQUARE_START, np.float32),
        )
        self._rates = np.array([options.rate, options.weight_rate], np.float32)

    def predict(self, batch: FieldBatch) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        rows = self._ids.find(keys_by_field(batch.keys))
        scores = np.empty(len(batch), np.float32)
        _predict(rows, batch.numbers, self._of_ids(), self._numbers, scores)
        return scores

    def learn(self, batch: FieldBatch) -> None:
        """One pass over the rows in their order; splitting a batch changes nothing."""
        rows = self._ids.admit(keys_by_field(batch.keys), batch.now)
        ids, clip = self._of_ids(), self.options.clip
        self.skipped += _learn(
            rows, batch.numbers, batch.label, batch.weight, ids, self._numbers, self._rates, clip
        )

    def _of_ids(self) -> Parameters:
        return Parameters(*(self._ids[name] for name in Parameters._fields))

    def state(self) -> State:
        """Rows of ids, and all that belongs to numbers; views."""
        return joined({"ids": self._ids.state(), "numbers": self._numbers._asdict()})

    def restore(self, state: State) -> None:
        """Become what `state()` gave."""
        self._ids.restore(part_of(state, "ids"))
        self._write_numbers(part_of(state, "numbers"))

    def changes(self) -> State:
        """Rows of ids seen since the last call, and all that belongs to numbers."""
        numbers = {name: array.copy() for name, array in self._numbers._asdict().items()}
        return joined({"ids": self._ids.changes(), "numbers": numbers})

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        self._ids.apply(part_of(changes, "ids"))
        self._write_numbers(part_of(changes, "numbers"))

    def _write_numbers(self, state: State) -> None:
        for name, array in self._numbers._asdict().items():
            array[:] = state[name]
