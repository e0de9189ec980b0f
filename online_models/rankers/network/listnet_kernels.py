"""Forward and backward pass of ListNet, list by list."""

from typing import NamedTuple

import numpy as np

from online_models.rankers.auc import list_auc
from online_models.rankers.network.adam import SKIPPED, AdamColumns, AdamState, count_list
from online_models.rankers.network.dense_layer import forward, standardize
from stream.jit import kernel

LOSS, AUC, LISTS = range(3)  # statistics of lists: sums, and their number


class Layers(NamedTuple):
    """Parameters, or their gradient: views of one flat array."""

    w: np.ndarray  # (inputs, hidden)
    bias: np.ndarray  # (hidden,)
    head: np.ndarray  # (hidden,), weights of the hidden layer in the score
    linear: np.ndarray  # (inputs,), weights of the standardized features in the score


class ListBuffers(NamedTuple):
    """Values of one list between its forward and its backward pass."""

    z: np.ndarray  # (longest, inputs) standardized features
    hidden: np.ndarray  # (longest, hidden)
    p: np.ndarray  # (longest,) exp(score - greatest score); softmax probabilities after the backward pass
    delta: np.ndarray  # (hidden,) scratch


def split_parameters(flat: np.ndarray, inputs: int, width: int) -> Layers:
    """Views of a flat array as layers."""
    w_end, bias_end = inputs * width, (inputs + 1) * width
    head_end = bias_end + width
    return Layers(flat[:w_end].reshape(inputs, width), flat[w_end:bias_end], flat[bias_end:head_end], flat[head_end:])


@kernel
def _forward_list(
    x: np.ndarray, offset: np.ndarray, mean: np.ndarray, scale: np.ndarray, layers: Layers, buffers: ListBuffers
) -> np.float32:
    """Fill the buffers for one list; returns the sum of `p`."""
    # Taken apart here: to reach into a tuple inside a loop counts references.
    z, hidden, p = buffers.z, buffers.hidden, buffers.p
    w, bias, head, linear = layers.w, layers.bias, layers.head, layers.linear
    top, norm = np.float32(-1e30), np.float32(0.0)
    for m in range(x.shape[0]):
        standardize(x[m], mean, scale, z[m])
        forward(z[m], w, bias, hidden[m])
        score = offset[m]
        for j in range(head.size):
            score += hidden[m, j] * head[j]
        for f in range(linear.size):
            score += z[m, f] * linear[f]
        p[m] = score
        top = max(top, score)
    for m in range(x.shape[0]):
        p[m] = np.exp(p[m] - top)
        norm += p[m]
    return norm


@kernel
def _backward_list(
    label: np.ndarray,
    total: np.float32,
    norm: np.float32,
    layers: Layers,
    buffers: ListBuffers,
    gradient: Layers,
    stats: np.ndarray,
) -> None:
    """Add the gradient of one list's cross entropy; skip entries that are predicted right."""
    z, hidden, p, delta, head = buffers.z, buffers.hidden, buffers.p, buffers.delta, layers.head
    g_w, g_bias, g_head, g_linear = gradient.w, gradient.bias, gradient.head, gradient.linear
    for m in range(label.size):
        p[m] /= norm
        y = label[m] / total
        if y > 0.0:
            stats[LOSS] -= y * np.log(max(p[m], np.float32(1e-12)))
        e = p[m] - y
        if abs(e) < np.float32(2e-4):
            continue
        for j in range(delta.size):
            g_head[j] += e * hidden[m, j]
            delta[j] = e * head[j] * (np.float32(1.0) if hidden[m, j] > 0.0 else np.float32(0.01))
            g_bias[j] += delta[j]
        for f in range(z.shape[1]):
            g_linear[f] += e * z[m, f]
            if z[m, f] != np.float32(0.0):
                for j in range(delta.size):
                    g_w[f, j] += z[m, f] * delta[j]


@kernel
def train(
    x: np.ndarray,
    label: np.ndarray,
    offset: np.ndarray,
    start: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
    layers: Layers,
    gradient: Layers,
    adam: AdamState,
    settings: AdamColumns,
    list_stats: np.ndarray,
    step_stats: np.ndarray,
) -> None:
    """Predict each list by the parameters that the steps before it left, then train on it."""
    longest = 0
    for i in range(start.size - 1):
        longest = max(longest, start[i + 1] - start[i])
    size, width = layers.w.shape
    buffers = ListBuffers(
        np.empty((longest, size), np.float32),
        np.empty((longest, width), np.float32),
        np.empty(longest, np.float32),
        np.empty(width, np.float32),
    )
    for i in range(start.size - 1):
        begin, end, total = start[i], start[i + 1], np.float32(0.0)
        for m in range(begin, end):
            total += label[m]
        if end - begin >= 2 and total > 0.0:
            norm = _forward_list(x[begin:end], offset[begin:end], mean, scale, layers, buffers)
            if not np.isfinite(norm):  # it would spoil the gradient of the lists that wait for the same step
                step_stats[SKIPPED] += 1
                continue
            list_stats[AUC] += list_auc(buffers.p, label[begin:end])
            _backward_list(label[begin:end], total, norm, layers, buffers, gradient, list_stats)
            list_stats[LISTS] += 1
            count_list(adam, settings, step_stats)
