"""Rank for relevance and against repetition: maximal marginal relevance."""

import numpy as np

from serving.replica.category_neighbors import jaccard
from stream.jit import kernel


def diversify(scores: np.ndarray, categories: np.ndarray, diversity: float, count: int) -> np.ndarray:
    """Order, (n,) int64, of n items, of which the first `count` are chosen one by one.

    Each time, the item with the largest (1 - diversity) · relevance - diversity · similarity is next: its score within
    the list, 0 to 1, and the largest Jaccard similarity of its `categories`, (n, c) uint64 keys, 0 = none, to those of
    an item above (Carbonell and Goldstein, 1998). The others follow by score, and ties go to the earlier item.
    """
    spread = float(np.ptp(scores)) if scores.size else 0.0
    relevance = (scores - scores.min()) / spread if spread > 0 else np.ones(scores.size)
    by_score = np.argsort(-scores, kind="stable")
    order = np.empty(min(count, scores.size), np.int64)
    _select(relevance.astype(float), categories, diversity, by_score, order)
    is_rest = np.ones(scores.size, np.bool_)
    is_rest[order] = False
    return np.concatenate([order, by_score[is_rest[by_score]]])


@kernel
def _select(
    relevance: np.ndarray, categories: np.ndarray, diversity: float, by_score: np.ndarray, order: np.ndarray
) -> None:
    similarity, is_selected = np.zeros(relevance.size), np.zeros(relevance.size, np.bool_)
    for position in range(order.size):
        best, best_value = -1, -np.inf
        for i in by_score:
            value = (1.0 - diversity) * relevance[i] - diversity * similarity[i]
            if not is_selected[i] and value > best_value:
                best, best_value = i, value
        order[position], is_selected[best] = best, True
        for i in by_score:
            similarity[i] = max(similarity[i], jaccard(categories[best], categories[i]))
