"""One hidden layer over standardised features: the forward half of the small networks, one row or many at a time."""

import numpy as np

from stream.compiled import kernel

_TILE = 4  # rows that share each weight while it is at hand


@kernel
def standard(x: np.ndarray, mean: np.ndarray, scale: np.ndarray, z: np.ndarray) -> None:
    """One row, standardised and held within ± 4."""
    for f in range(z.size):
        z[f] = min(np.float32(4.0), max(np.float32(-4.0), (x[f] - mean[f]) * scale[f]))


@kernel
def forward(z: np.ndarray, w: np.ndarray, bias: np.ndarray, hidden: np.ndarray) -> None:
    """The hidden layer of one row: leaky rectified linear units."""
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
    """(m, inputs + hidden): each row standardised, and behind it its hidden layer, to the bit as `forward` makes it."""
    rows, size, width = x.shape[0], x.shape[1], bias.size
    hidden = np.empty((_TILE, width), np.float32)
    for first in range(0, rows, _TILE):
        for r in range(_TILE):
            m = min(first + r, rows - 1)  # the last tile works on its last row again
            standard(x[m], mean, scale, out[m, :size])
            hidden[r] = bias
        a, b = out[first], out[min(first + 1, rows - 1)]
        c, d = out[min(first + 2, rows - 1)], out[min(first + 3, rows - 1)]
        for f in range(size):
            for j in range(width):
                weight = w[f, j]
                hidden[0, j] += a[f] * weight
                hidden[1, j] += b[f] * weight
                hidden[2, j] += c[f] * weight
                hidden[3, j] += d[f] * weight
        for r in range(min(_TILE, rows - first)):
            for j in range(width):
                out[first + r, size + j] = max(hidden[r, j], np.float32(0.01) * hidden[r, j])
