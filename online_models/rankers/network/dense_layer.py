"""Forward pass of a hidden layer over standardized features, for one row or many."""

import numpy as np

from stream.jit import kernel

_TILE = 4  # rows that share each loaded weight


@kernel
def standardize(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, z: np.ndarray) -> None:
    """Standardize one row and clip it to ± 4."""
    for f in range(z.size):
        z[f] = min(np.float32(4.0), max(np.float32(-4.0), (x[f] - mean[f]) * scale[f]))


@kernel
def standardize_rows(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, z: np.ndarray) -> None:
    """Standardize many rows, (m, inputs)."""
    for m in range(x.shape[0]):
        standardize(x[m], mean, scale, z[m])


@kernel
def forward(z: np.ndarray, w: np.ndarray, bias: np.ndarray, hidden: np.ndarray) -> None:
    """Hidden layer of one row: leaky rectified linear units."""
    hidden[:] = bias
    for f in range(z.size):
        if z[f] != np.float32(0.0):
            for j in range(hidden.size):
                hidden[j] += z[f] * w[f, j]
    for j in range(hidden.size):
        hidden[j] = max(hidden[j], np.float32(0.01) * hidden[j])


@kernel
def forward_rows(
    x: np.ndarray, mean: np.ndarray, scale: np.ndarray, w: np.ndarray, bias: np.ndarray, out: np.ndarray
) -> None:
    """Fill `out`, (m, inputs + hidden): each standardized row, then its hidden layer.

    The bits are those of `forward`. Two inputs at a time, so that each sum is loaded and stored once for both.
    """
    rows, size, width = x.shape[0], x.shape[1], bias.size
    z, hidden = np.empty((_TILE, size), np.float32), np.empty((_TILE, width), np.float32)
    even = size // 2 * 2
    for first in range(0, rows, _TILE):
        for r in range(_TILE):
            standardize(x[min(first + r, rows - 1)], mean, scale, z[r])  # the last tile repeats its last row
            hidden[r] = bias
        for f in range(0, even, 2):
            a, b, c, d = z[0, f], z[1, f], z[2, f], z[3, f]
            e, g, h, i = z[0, f + 1], z[1, f + 1], z[2, f + 1], z[3, f + 1]
            for j in range(width):
                w0, w1 = w[f, j], w[f + 1, j]
                hidden[0, j] = hidden[0, j] + a * w0 + e * w1
                hidden[1, j] = hidden[1, j] + b * w0 + g * w1
                hidden[2, j] = hidden[2, j] + c * w0 + h * w1
                hidden[3, j] = hidden[3, j] + d * w0 + i * w1
        for f in range(even, size):
            for r in range(_TILE):
                for j in range(width):
                    hidden[r, j] += z[r, f] * w[f, j]
        for r in range(min(_TILE, rows - first)):
            for f in range(size):
                out[first + r, f] = z[r, f]
            for j in range(width):
                out[first + r, size + j] = max(hidden[r, j], np.float32(0.01) * hidden[r, j])


@kernel
def add_weighted(rows: np.ndarray, weight: np.ndarray, sums: np.ndarray) -> None:
    """Add the weighted columns of each row to its sum, in order.

    Four rows side by side: an addition waits only for the one before it in its own row.
    """
    last = rows.shape[0] - 1
    for first in range(0, rows.shape[0], 4):
        second, third, fourth = min(first + 1, last), min(first + 2, last), min(first + 3, last)
        a, b, c, d = sums[first], sums[second], sums[third], sums[fourth]
        for j in range(weight.size):
            a += rows[first, j] * weight[j]
            b += rows[second, j] * weight[j]
            c += rows[third, j] * weight[j]
            d += rows[fourth, j] * weight[j]
        sums[first] = a
        if second > first:
            sums[second] = b
        if third > second:
            sums[third] = c
        if fourth > third:
            sums[fourth] = d


@kernel
def sum_of_squares(values: np.ndarray) -> np.float32:
    """Sum of squares, as four sums that do not wait for each other."""
    a, b, c, d = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
    n_unrolled = values.size - values.size % 4
    for q in range(0, n_unrolled, 4):
        a += values[q] * values[q]
        b += values[q + 1] * values[q + 1]
        c += values[q + 2] * values[q + 2]
        d += values[q + 3] * values[q + 3]
    for q in range(n_unrolled, values.size):
        a += values[q] * values[q]
    return a + b + c + d
