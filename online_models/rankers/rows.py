"""Which rows a ranker may learn from, and what it makes of the others: hostile input never reaches a parameter."""

import math

import numpy as np

from stream.compiled import kernel

BOUND = 1e6  # numbers are cut to ±BOUND: their squares still fit a float32 sum
LOGIT_BOUND = 15.0  # probabilities stay away from 0 and 1, where the log loss is infinite


@kernel
def bounded(value: float) -> float:
    """A number that can be summed; one that is none counts as 0."""
    if math.isnan(value):
        return np.float32(0)
    return np.float32(min(max(value, -BOUND), BOUND))


@kernel
def probability(logit: float) -> float:
    """The logistic function, cut so that neither 0 nor 1 comes out; a logit that is no number counts as 0."""
    x = min(max(np.float32(logit), np.float32(-LOGIT_BOUND)), np.float32(LOGIT_BOUND))
    if math.isnan(logit):
        x = np.float32(0)
    return np.float32(1) / (np.float32(1) + math.exp(-x))


@kernel
def sound(numbers: np.ndarray, label: float, weight: float) -> bool:
    """Whether one row may be learnt from: its label in [0, 1], its weight ≥ 0 and finite, its numbers finite."""
    good = 0 <= label <= 1 and 0 <= weight < np.inf
    for j in range(numbers.size):
        good = good and abs(numbers[j]) < np.inf
    return good


@kernel
def find_sound(numbers: np.ndarray, label: np.ndarray, weight: np.ndarray, good: np.ndarray) -> None:
    """`sound` of each row, written to `good`, (n,) bool."""
    for i in range(label.size):
        good[i] = sound(numbers[i], label[i], weight[i])


@kernel
def clipped(gradient: float, square: float, clip: float) -> float:
    """A row's derivative by its logit, made smaller where the norm of the row's whole gradient is above `clip`.

    `square` is the squared norm of the logit's own gradient, so the whole norm is |gradient| √square.
    """
    norm = abs(gradient) * math.sqrt(square)
    return gradient * (clip / norm) if norm > clip else gradient


@kernel
def mix_fields(keys: np.ndarray, mixed: np.ndarray) -> None:
    """Keys that differ from field to field, so that one table serves all of them; 0 stays 0."""
    for i in range(keys.shape[0]):
        for j in range(keys.shape[1]):
            apart = keys[i, j] + np.uint64(j) * np.uint64(0x9E3779B97F4A7C15)
            mixed[i, j] = apart if keys[i, j] != np.uint64(0) else np.uint64(0)


def keys_by_field(keys: np.ndarray) -> np.ndarray:
    """Keys of fields as keys of one table, (n, c) uint64."""
    mixed = np.empty_like(keys)
    mix_fields(keys, mixed)
    return mixed
