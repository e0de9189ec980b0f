"""Kernels of the two-tower retriever: first vectors, training, user vectors and scores."""

from typing import NamedTuple

import numpy as np

from online_models.state.contribution_caps import VIEWED
from online_models.state.item_table import WEEK
from stream.ids import GOLDEN_GAMMA, mix64
from stream.jit import kernel

# Entries of `stats`: greatest gradient norm, sum of squared norms, updates, sum of squared updates, skipped updates.
MAX_NORM, NORM_SQUARES, N_UPDATES, UPDATE_SQUARES, N_SKIPPED = range(5)


class Tower(NamedTuple):
    """Vectors of one tower, by item row."""

    vector: np.ndarray  # (rows, size) float32
    square: np.ndarray  # (rows,) float32, Adagrad sum; 0 = never trained


class RecentItems(NamedTuple):
    """Ring of the items that were acted on last; negatives are drawn from it."""

    row: np.ndarray  # (recent,) int32
    counters: np.ndarray  # (2,) int64: actions put into the ring, negatives drawn


class TrainingSteps(NamedTuple):
    """Settings of the training kernel; see `TwoTowerSettings`."""

    depth: int
    decay: float
    negatives: int
    min_recent: int
    min_error: float
    min_weight: float
    rate: float
    clip: float


@kernel
def _draw(x: np.uint64) -> np.uint64:
    """Hash that serves as a random generator, so that a counter is its whole state."""
    return mix64(x * GOLDEN_GAMMA)


@kernel
def init_vectors(keys: np.ndarray, seed: int, vectors: np.ndarray) -> None:
    """Draw the vectors of new rows from key and seed: uniform, of variance 1 / (10 size)."""
    spread = np.float32(np.sqrt(1.2 / vectors.shape[1]))
    for i in range(keys.size):
        for j in range(vectors.shape[1]):
            draw = _draw(keys[i] ^ _draw(np.uint64(seed * 1024 + j + 1))) >> np.uint64(40)
            vectors[i, j] = (np.float32(draw) / np.float32(16777216.0) - np.float32(0.5)) * spread


@kernel
def _pool_history(
    begin: int, end: int, history: np.ndarray, depth: int, decay: np.float32, vector: np.ndarray, user: np.ndarray
) -> np.float32:
    """Write the user's vector; return the sum of weights, 0 where no history item is known."""
    user[:] = np.float32(0.0)
    weight, total = np.float32(1.0), np.float32(0.0)
    for back in range(min(depth, end - begin)):
        row = history[end - 1 - back]
        if row >= 0:
            for j in range(user.size):
                user[j] += weight * vector[row, j]
            total += weight
        weight *= decay
    if total > 0.0:
        user /= total
    return total


@kernel
def _step(
    row: int, gradient: np.ndarray, scale: np.float32, rate: np.float32, clip: np.float32, vectors: np.ndarray,
    squares: np.ndarray, stats: np.ndarray,
) -> None:  # fmt: skip
    """Take a row-wise Adagrad step, clipped by norm; skip a gradient that is not finite."""
    square = np.float32(0.0)
    for j in range(gradient.size):
        square += gradient[j] * gradient[j]
    norm = np.sqrt(square) * abs(scale)
    if not np.isfinite(norm):
        stats[N_SKIPPED] += 1
        return
    if norm == 0.0:
        return
    stats[MAX_NORM] = max(stats[MAX_NORM], norm)
    stats[NORM_SQUARES] += norm * norm
    scale *= min(np.float32(1.0), clip / norm)
    squares[row] += scale * scale * square / np.float32(gradient.size)
    step = rate * scale / np.sqrt(squares[row] + np.float32(1e-6))
    for j in range(gradient.size):
        vectors[row, j] -= step * gradient[j]
    stats[N_UPDATES] += 1
    stats[UPDATE_SQUARES] += step * step * square


@kernel
def train(
    item: np.ndarray, start: np.ndarray, history: np.ndarray, counts: np.ndarray, settings: TrainingSteps,
    history_tower: Tower, item_tower: Tower, recent_items: RecentItems, changed: np.ndarray, stats: np.ndarray,
) -> None:  # fmt: skip
    """Train on each action's item against negatives: softmax cross entropy with logQ correction.

    `changed`, uint8 by item row, gets bit 0 where the item vector moved and bit 1 where the history vector moved.
    """
    depth, _, negatives, min_recent, _, _, _, _ = settings
    decay, rate, clip = np.float32(settings.decay), np.float32(settings.rate), np.float32(settings.clip)
    min_error, min_weight = np.float32(settings.min_error), np.float32(settings.min_weight)
    history_vector, history_square = history_tower
    vector, square = item_tower
    recent, counters = recent_items
    size = vector.shape[1]
    user, user_gradient = np.empty(size, np.float32), np.empty(size, np.float32)
    rows = np.empty(negatives + 1, np.int64)
    p = np.empty(negatives + 1, np.float32)
    for i in range(item.size):
        if item[i] < 0:
            continue
        n_recent = min(counters[0], recent.size)
        total = _pool_history(start[i], start[i + 1], history, depth, decay, history_vector, user)
        if n_recent > min_recent and total > 0.0:
            rows[0] = item[i]
            top = np.float32(-1e30)
            for n in range(negatives + 1):
                if n:
                    counters[1] += 1
                    rows[n] = recent[np.int64(_draw(np.uint64(counters[1])) % np.uint64(n_recent))]
                s = np.float32(0.0)
                for j in range(size):
                    s += user[j] * vector[rows[n], j]
                p[n] = s - np.log(np.float32(1.0) + counts[rows[n], VIEWED:, WEEK].sum())  # logQ up to a constant
                top = max(top, p[n])
            norm = np.float32(0.0)
            for n in range(negatives + 1):
                p[n] = np.float32(0.0) if n and rows[n] == rows[0] else np.exp(p[n] - top)
                norm += p[n]
            user_gradient[:] = np.float32(0.0)
            for n in range(negatives + 1):
                error = p[n] / norm - (np.float32(1.0) if n == 0 else np.float32(0.0))
                if abs(error) < min_error:
                    continue
                for j in range(size):
                    user_gradient[j] += error * vector[rows[n], j]
                _step(rows[n], user, error, rate, clip, vector, square, stats)
                changed[rows[n]] |= 1
            weight = np.float32(1.0) / total
            for back in range(min(depth, start[i + 1] - start[i])):
                row = history[start[i + 1] - 1 - back]
                if row >= 0 and weight * total > min_weight:
                    _step(row, user_gradient, weight, rate, clip, history_vector, history_square, stats)
                    changed[row] |= 2
                weight *= decay
        recent[counters[0] % recent.size] = item[i]
        counters[0] += 1


@kernel
def pool_histories(
    start: np.ndarray, history: np.ndarray, depth: int, decay: float, vector: np.ndarray, out: np.ndarray
) -> None:
    """Write the vector of each user: the recency-weighted mean over the history."""
    for i in range(start.size - 1):
        _pool_history(start[i], start[i + 1], history, depth, np.float32(decay), vector, out[i])


@kernel
def write_inner_products(
    user_vectors: np.ndarray, vector: np.ndarray, start: np.ndarray, row: np.ndarray, out: np.ndarray, column: int
) -> None:
    """Write inner products, four items at a time: the four sums do not wait for one another."""
    zeros = np.zeros(user_vectors.shape[1], np.float32)
    for i in range(start.size - 1):
        user, end = user_vectors[i], start[i + 1]
        for m in range(start[i], end, 4):
            n_lanes = min(m + 4, end) - m
            a = vector[row[m]] if row[m] >= 0 else zeros
            b = vector[row[m + 1]] if n_lanes > 1 and row[m + 1] >= 0 else zeros
            c = vector[row[m + 2]] if n_lanes > 2 and row[m + 2] >= 0 else zeros
            d = vector[row[m + 3]] if n_lanes > 3 and row[m + 3] >= 0 else zeros
            p, q, r, s = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(user.size):
                p += user[j] * a[j]
                q += user[j] * b[j]
                r += user[j] * c[j]
                s += user[j] * d[j]
            for n, value in enumerate((p, q, r, s)):
                if n < n_lanes:
                    out[m + n, column] = value
