"""What a person's past says of an item's categories: how much of what they did, and of what they were shown, is alike.

A thing of several categories counts in each of them with an equal part of one.
"""

import numpy as np

from stream.jit import kernel

TASTE = (
    "category_share",  # of the latest actions, the later the more
    "category_latest",  # of the last action
    "category_shown",  # log(1 + places shown)
    "category_rate",  # log of actions per place shown, smoothed, 0 where nothing is known
)
_DEPTH = 24  # actions that the share is of
_NO_CATEGORY = np.uint64(0)


@kernel
def _place_of(key: np.uint64, known: np.ndarray, size: int) -> int:
    for c in range(size):
        if known[c] == key:
            return c
    return -1


@kernel
def _count_in(
    own: np.ndarray, weight: np.float32, column: int, known: np.ndarray, size: int, counts: np.ndarray
) -> int:
    """Share `weight` out among an item's categories; returns how many categories are known now."""
    parts = 0
    while parts < own.size and own[parts] != _NO_CATEGORY:
        parts += 1
    for a in range(parts):
        c = _place_of(own[a], known, size)
        if c < 0:
            c = size
            known[c] = own[a]
            counts[c] = np.float32(0.0)
            size += 1
        counts[c, column] += weight / np.float32(parts)
    return size


@kernel
def taste_block(
    history_start: np.ndarray,
    history: np.ndarray,
    shown_start: np.ndarray,
    shown: np.ndarray,
    categories: np.ndarray,
    start: np.ndarray,
    row: np.ndarray,
    out: np.ndarray,
    column: int,
) -> None:
    """Fill the four columns of `TASTE`; items of no known category are left at 0."""
    one = np.float32(1.0)
    for i in range(start.size - 1):
        begin, end = history_start[i], history_start[i + 1]
        most = (end - begin + shown_start[i + 1] - shown_start[i]) * categories.shape[1]
        known, counts = np.empty(most, np.uint64), np.empty((most, 4), np.float32)
        size, weight, total = 0, one, one
        for back in range(end - begin):
            o = history[end - 1 - back]
            if o < 0 or categories[o, 0] == _NO_CATEGORY:
                continue
            if back < _DEPTH:
                size = _count_in(categories[o], weight, 0, known, size, counts)
                total += weight
                weight *= np.float32(0.9)
            if back == 0:
                size = _count_in(categories[o], one, 1, known, size, counts)
            size = _count_in(categories[o], one, 2, known, size, counts)
        for s in range(shown_start[i], shown_start[i + 1]):
            if shown[s] >= 0:
                size = _count_in(categories[shown[s]], one, 3, known, size, counts)
        for m in range(start[i], start[i + 1]):
            if row[m] < 0:
                continue
            acted, seen = np.float32(0.0), np.float32(0.0)
            for b in range(categories.shape[1]):
                key = categories[row[m], b]
                if key == _NO_CATEGORY:
                    break
                c = _place_of(key, known, size)
                if c < 0:
                    continue
                out[m, column] += counts[c, 0] / total
                out[m, column + 1] += counts[c, 1]
                acted += counts[c, 2]
                seen += counts[c, 3]
            out[m, column + 2] = np.log(one + seen)
            out[m, column + 3] = np.log((acted + np.float32(0.5)) / (seen + np.float32(4.0))) + np.float32(2.0794415)
