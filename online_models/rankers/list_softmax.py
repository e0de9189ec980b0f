"""Softmax within lists: the probability of each item to be the clicked one."""

import numpy as np


def log_softmax_by_list(scores: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Log probability of each entry within its list, (m,) float64; no list is empty."""
    lengths, begin = np.diff(start), start[:-1]
    s = scores.astype(np.float64)
    s -= np.repeat(np.maximum.reduceat(s, begin), lengths)
    s -= np.repeat(np.log(np.add.reduceat(np.exp(s), begin)), lengths)
    return s


def softmax_by_list(scores: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Probability of each entry within its list, (m,) float32; lists may be empty.

    >>> softmax_by_list(np.array([0.0, 0.0, 5.0], np.float32), np.array([0, 2, 2, 3])).tolist()
    [0.5, 0.5, 1.0]
    """
    if scores.size == 0:
        return np.zeros(0, np.float32)
    starts = np.append(start[:-1][np.diff(start) > 0], start[-1])
    probability: np.ndarray = np.exp(log_softmax_by_list(scores, starts)).astype(np.float32)
    return probability
