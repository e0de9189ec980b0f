"""Affinity of a user to an item's categories, from actions and impressions.

An action on an item of several categories counts for each of them with an equal share of one.
"""

import numpy as np

from online_models.state.item_table import ItemLists, QueryColumns
from stream.jit import kernel

CATEGORY_FEATURES = (
    "category_share",  # of the latest 24 actions, weighted by recency
    "category_latest",  # of the latest action
    "category_shown",  # log(1 + impressions)
    "category_rate",  # log of actions per impression, smoothed, 0 where nothing is known
    "category_disliked",  # log(1 + dislikes)
)
_NO_CATEGORY = np.uint64(0)


@kernel
def _find_category(key: np.uint64, known_keys: np.ndarray, size: int) -> int:
    for c in range(size):
        if known_keys[c] == key:
            return c
    return -1


@kernel
def _add_counts(
    item_categories: np.ndarray, weight: np.float32, column: int, known_keys: np.ndarray, size: int, counts: np.ndarray
) -> int:
    """Distribute `weight` over an item's categories; return the number of known categories."""
    n_categories = 0
    while n_categories < item_categories.size and item_categories[n_categories] != _NO_CATEGORY:
        n_categories += 1
    for a in range(n_categories):
        c = _find_category(item_categories[a], known_keys, size)
        if c < 0:
            c = size
            known_keys[c] = item_categories[a]
            counts[c] = np.float32(0.0)
            size += 1
        counts[c, column] += weight / np.float32(n_categories)
    return size


@kernel
def category_affinity_block(
    queries: QueryColumns, categories: np.ndarray, lists: ItemLists, out: np.ndarray, column: int
) -> None:
    """Fill the five columns of CATEGORY_FEATURES; items without a known category keep 0."""
    _, _, _, history_start, history, disliked, _, _, shown_start, shown = queries
    start, row, _, _ = lists
    unit, depth, log_prior = np.float32(1.0), 24, np.float32(2.0794415)  # log(4 / 0.5)
    for i in range(start.size - 1):
        begin, end = history_start[i], history_start[i + 1]
        capacity = (end - begin + shown_start[i + 1] - shown_start[i]) * categories.shape[1]
        known_keys, counts = np.empty(capacity, np.uint64), np.empty((capacity, 5), np.float32)
        size, weight, total = 0, unit, unit
        for back in range(end - begin):
            o = disliked[end - 1 - back]
            if o >= 0:
                size = _add_counts(categories[o], unit, 4, known_keys, size, counts)
            o = history[end - 1 - back]
            if o < 0 or categories[o, 0] == _NO_CATEGORY:
                continue
            if back < depth:
                size = _add_counts(categories[o], weight, 0, known_keys, size, counts)
                total += weight
                weight *= np.float32(0.9)
            if back == 0:
                size = _add_counts(categories[o], unit, 1, known_keys, size, counts)
            size = _add_counts(categories[o], unit, 2, known_keys, size, counts)
        for s in range(shown_start[i], shown_start[i + 1]):
            if shown[s] >= 0:
                size = _add_counts(categories[shown[s]], unit, 3, known_keys, size, counts)
        for m in range(start[i], start[i + 1]):
            if row[m] < 0:
                continue
            n_actions, n_shown, n_disliked = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for b in range(categories.shape[1]):
                key = categories[row[m], b]
                if key == _NO_CATEGORY:
                    break
                c = _find_category(key, known_keys, size)
                if c < 0:
                    continue
                out[m, column] += counts[c, 0] / total
                out[m, column + 1] += counts[c, 1]
                n_actions += counts[c, 2]
                n_shown += counts[c, 3]
                n_disliked += counts[c, 4]
            out[m, column + 2] = np.log(unit + n_shown)
            rate = (n_actions + np.float32(0.5)) / (n_shown + np.float32(4.0))
            out[m, column + 3] = np.log(rate) + log_prior
            out[m, column + 4] = np.log(unit + n_disliked)
