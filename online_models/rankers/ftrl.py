"""Logistic regression by FTRL-proximal: the first model to try, and the fastest to train."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.protocols import FeatureRows
from online_models.rankers.sanitize import Real, clip_gradient, clip_value, clipped_sigmoid, valid_rows
from online_models.state.tables import State
from stream.jit import kernel

_FIELD_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
_HASH_MULTIPLIER = np.uint64(0xD6E8FEB86659FD93)
_BLOCK_BITS = 4  # changed slots are marked in blocks of 2**_BLOCK_BITS, so that the marks stay in the cache
_Z, _ROOT, _WEIGHT = 0, 1, 2  # columns of a slot: z, √n and w of Algorithm 1


@dataclass(frozen=True, slots=True)
class FTRLSettings:
    """Hyperparameters, with names and defaults as in McMahan et al. 2013."""

    alpha: float = 0.1
    beta: float = 1.0
    l1: float = 0.0
    l2: float = 0.0
    bits: int = 22  # there are 2**bits slots for the weights of ids and crosses
    crosses: tuple[tuple[int, int], ...] = ()  # pairs of fields whose combinations have their own weights
    clip: float = 10.0  # greatest norm of a row's gradient

    def __post_init__(self) -> None:
        for name in ("alpha", "beta", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")
        for name in ("l1", "l2"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a finite number, 0 or greater, got {getattr(self, name)}")
        if not _BLOCK_BITS <= self.bits <= 30:
            raise ValueError(f"bits must be from {_BLOCK_BITS} to 30, got {self.bits}")


@kernel
def _find_slots(keys: np.ndarray, crosses: np.ndarray, bits: int, slots: np.ndarray) -> None:
    """Slots of a row: one per field (missing is a value like others), then one per cross."""
    shift = np.uint64(64 - bits)
    for j in range(keys.size):
        slots[j] = np.int64(((keys[j] + np.uint64(j) * _FIELD_MULTIPLIER) * _HASH_MULTIPLIER) >> shift)
    for j in range(crosses.shape[0]):
        left, right = keys[crosses[j, 0]], keys[crosses[j, 1]]
        cross_key = (left ^ (left >> np.uint64(29))) * _FIELD_MULTIPLIER + (right ^ (right >> np.uint64(32)))
        slots[keys.size + j] = np.int64(
            ((cross_key + np.uint64(keys.size + j) * _FIELD_MULTIPLIER) * _HASH_MULTIPLIER) >> shift
        )


@kernel
def _logit(sparse: np.ndarray, dense: np.ndarray, slots: np.ndarray, numbers: np.ndarray) -> np.float32:
    total = np.float32(dense[numbers.size, _WEIGHT])
    for j in range(numbers.size):
        total += dense[j, _WEIGHT] * clip_value(numbers[j])
    ids = np.float32(0)  # two sums, so that neither waits for the other
    for j in range(slots.size):
        ids += sparse[slots[j], _WEIGHT]
    return np.float32(total + ids)


@kernel
def _predict(
    sparse: np.ndarray,
    dense: np.ndarray,
    crosses: np.ndarray,
    bits: int,
    keys: np.ndarray,
    numbers: np.ndarray,
    scores: np.ndarray,
) -> None:
    slots = np.empty(keys.shape[1] + crosses.shape[0], np.int64)
    for i in range(scores.size):
        _find_slots(keys[i], crosses, bits, slots)
        scores[i] = clipped_sigmoid(_logit(sparse, dense, slots, numbers[i]))


@kernel
def _step(
    z: np.ndarray, root: np.ndarray, weight: np.ndarray, gradient: Real, x: np.ndarray, rates: np.ndarray
) -> None:
    """Update all weights of a row by Algorithm 1, in vector lanes.

    `rates` is 1/alpha, beta/alpha + l2, l1.
    """
    per_root, floor, l1 = rates[0], rates[1], rates[2]
    for j in range(x.size):
        g = gradient * x[j]
        new_root = np.sqrt(root[j] * root[j] + g * g)
        z[j] += g - (new_root - root[j]) * per_root * weight[j]
        root[j] = new_root
        weight[j] = (min(max(z[j], -l1), l1) - z[j]) / (new_root * per_root + floor)


@kernel
def _learn(
    sparse: np.ndarray,
    dense: np.ndarray,
    changed_blocks: np.ndarray,
    crosses: np.ndarray,
    bits: int,
    keys: np.ndarray,
    numbers: np.ndarray,
    label: np.ndarray,
    importance: np.ndarray,
    rates: np.ndarray,
    clip: float,
) -> None:
    """One pass over the rows in their order."""
    n_dense = dense.shape[0]
    slots = np.empty(keys.shape[1] + crosses.shape[0], np.int64)
    x = np.ones(n_dense + slots.size, np.float32)
    z, root, weight = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    for i in range(label.size):
        _find_slots(keys[i], crosses, bits, slots)
        square = np.float32(slots.size + 1)
        for j in range(n_dense - 1):
            x[j] = clip_value(numbers[i, j])
            square += x[j] * x[j]
        error = clipped_sigmoid(_logit(sparse, dense, slots, numbers[i])) - label[i]
        gradient = np.float32(clip_gradient(error * importance[i], square, clip))
        for j in range(slots.size):  # in a loop of its own: weights that a mark may alias would be loaded again
            changed_blocks[slots[j] >> _BLOCK_BITS] = True
        # Gather, step, scatter: one loop over scattered memory cannot run in vector lanes.
        for j in range(n_dense):
            z[j], root[j], weight[j] = dense[j, _Z], dense[j, _ROOT], dense[j, _WEIGHT]
        for j in range(slots.size):
            k, slot = n_dense + j, slots[j]
            z[k], root[k], weight[k] = sparse[slot, _Z], sparse[slot, _ROOT], sparse[slot, _WEIGHT]
        _step(z, root, weight, gradient, x, rates)
        for j in range(n_dense):
            dense[j, _Z], dense[j, _ROOT], dense[j, _WEIGHT] = z[j], root[j], weight[j]
        for j in range(slots.size):
            k, slot = n_dense + j, slots[j]
            sparse[slot, _Z], sparse[slot, _ROOT], sparse[slot, _WEIGHT] = z[k], root[k], weight[k]


class FTRLRegression:
    """Logistic regression over hashed fields, their crosses and numbers.

    FTRL-proximal with a learning rate per weight. McMahan et al., "Ad Click Prediction: a View from the Trenches" (KDD
    2013), Algorithm 1. √n stands in place of n, and w beside it, so that a prediction is a plain sum.

    Weights are in a hashed array of fixed size, so two ids may share a weight. Rows of an `EmbeddingTable` share none,
    but their lookup takes as long as all of the training; with 2**22 slots and 225,000 ids, sharing raises the log
    loss by 0.00001. A missing id is a value like others.
    """

    def __init__(self, fields: int, numbers: int, settings: FTRLSettings = FTRLSettings()) -> None:
        for cross in settings.crosses:
            if len(cross) != 2 or not all(0 <= field < fields for field in cross):
                raise ValueError(f"crosses must be pairs of fields from 0 to {fields - 1}, got {cross}")
        self.settings = settings
        self.skipped = 0  # invalid rows
        self._crosses = np.array(settings.crosses, np.int64).reshape(-1, 2)
        self._sparse = np.zeros((1 << settings.bits, 3), np.float32)
        self._dense = np.zeros((numbers + 1, 3), np.float32)  # the last row is the bias
        self._changed_blocks = np.zeros(1 << settings.bits - _BLOCK_BITS, np.bool_)
        rates = [1 / settings.alpha, settings.beta / settings.alpha + settings.l2, settings.l1]
        self._rates = np.array(rates, np.float32)

    def predict(self, batch: FeatureRows) -> np.ndarray:
        """Probability of the label, (n,) float32."""
        scores = np.empty(len(batch), np.float32)
        bits = self.settings.bits
        _predict(self._sparse, self._dense, self._crosses, bits, batch.keys, batch.numbers, scores)
        return scores

    def learn(self, batch: FeatureRows) -> None:
        """One pass over the rows in their order; splitting a batch changes nothing."""
        valid = valid_rows(batch)
        self.skipped += len(batch) - len(valid)
        _learn(
            self._sparse,
            self._dense,
            self._changed_blocks,
            self._crosses,
            self.settings.bits,
            valid.keys,
            valid.numbers,
            valid.label,
            valid.weight,
            self._rates,
            self.settings.clip,
        )

    def state(self) -> State:
        """All weights with their accumulators; views."""
        return {"sparse": self._sparse, "dense": self._dense}

    def restore(self, state: State) -> None:
        """Replace all state by a copy of `state`."""
        self._sparse[:] = state["sparse"]
        self._dense[:] = state["dense"]
        self._changed_blocks[:] = False

    def changes(self) -> State:
        """Slots in use in blocks that changed since the last call, and the dense weights."""
        blocks = np.flatnonzero(self._changed_blocks)
        self._changed_blocks[blocks] = False
        slots = ((blocks << _BLOCK_BITS)[:, None] + np.arange(1 << _BLOCK_BITS)).reshape(-1)
        slots = slots[self._sparse[slots, _ROOT] > 0].astype(np.int32)
        return {"slots": slots, "sparse": self._sparse[slots], "dense": self._dense.copy()}

    def apply(self, changes: State) -> None:
        """Write a learner's changes into this replica."""
        self._sparse[changes["slots"]] = changes["sparse"]
        self._dense[:] = changes["dense"]
