"""Validation and clipping of training rows: hostile input never reaches a parameter."""

import math

import numpy as np

from online_models.protocols import FeatureRows
from stream.jit import kernel

BOUND = 1e6  # numbers are clipped to ±BOUND: their squares still fit a float32 sum
LOGIT_BOUND = 15.0  # probabilities stay away from 0 and 1, where the log loss is infinite

Real = float | np.float32


@kernel
def clip_value(value: Real) -> np.float32:
    """A number within ±BOUND; NaN counts as 0."""
    if math.isnan(value):
        return np.float32(0)
    return np.float32(min(max(value, -BOUND), BOUND))


@kernel
def clipped_sigmoid(logit: Real) -> np.float32:
    """Logistic function of a logit within ±LOGIT_BOUND, so never 0 or 1; NaN counts as 0."""
    x = min(max(np.float32(logit), np.float32(-LOGIT_BOUND)), np.float32(LOGIT_BOUND))
    if math.isnan(logit):
        x = np.float32(0)
    return np.float32(np.float32(1) / (np.float32(1) + math.exp(-x)))


@kernel
def _mark_valid(numbers: np.ndarray, label: np.ndarray, weight: np.ndarray, valid: np.ndarray) -> None:
    for i in range(label.size):
        valid[i] = 0 <= label[i] <= 1 and 0 <= weight[i] < np.inf
        for j in range(numbers.shape[1]):
            valid[i] = valid[i] and abs(numbers[i, j]) < np.inf


def valid_rows(batch: FeatureRows) -> FeatureRows:
    """The rows to train on: label in [0, 1], weight finite and not negative, numbers finite."""
    valid = np.empty(len(batch), np.bool_)
    _mark_valid(batch.numbers, batch.label, batch.weight, valid)
    if valid.all():
        return batch
    start = np.concatenate([[0], np.cumsum(valid)])[batch.start]
    return FeatureRows(
        batch.keys[valid], batch.numbers[valid], batch.label[valid], batch.weight[valid], start, batch.now
    )


@kernel
def clip_gradient(gradient: Real, square: Real, clip: float) -> float:
    """Derivative of a row by its logit, scaled down where its gradient is too long.

    Too long: the norm of the row's whole gradient exceeds `clip`. `square` is the squared norm of the logit's gradient,
    so the whole norm is |gradient| √square.
    """
    norm = abs(float(gradient)) * math.sqrt(square)
    return float(gradient) * (clip / norm) if norm > clip else float(gradient)


@kernel
def mix_fields(keys: np.ndarray, field_keys: np.ndarray) -> None:
    """Make equal keys of different fields differ, to share one table; 0 stays 0."""
    for i in range(keys.shape[0]):
        for j in range(keys.shape[1]):
            key = keys[i, j] + np.uint64(j) * np.uint64(0x9E3779B97F4A7C15)
            field_keys[i, j] = key if keys[i, j] != np.uint64(0) else np.uint64(0)


def keys_by_field(keys: np.ndarray) -> np.ndarray:
    """Field keys as keys of one table, (n, c) uint64."""
    field_keys = np.empty_like(keys)
    mix_fields(keys, field_keys)
    return field_keys
