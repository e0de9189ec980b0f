"""AUC: the probability that a clicked item scores above another; ties count half."""

import numpy as np

from stream.jit import kernel


def auc_score(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """AUC of all entries, by ranks (Mann and Whitney 1947); None without entries of both kinds.

    >>> auc_score(np.array([0.3, 0.9, 0.3, 0.1]), np.array([1, 0, 0, 0]))
    0.5
    """
    is_positive = labels > 0
    n_positive, n_negative = int(is_positive.sum()), int((~is_positive).sum())
    if not n_positive or not n_negative:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each distinct score, from 1
    return float((rank[inverse][is_positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


@kernel
def list_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """AUC of one short list, inside a kernel; 0.5 without entries of both kinds."""
    pairs, concordant = 0, 0.0
    for a in range(labels.size):
        if labels[a] <= 0.0:
            continue
        for b in range(labels.size):
            if labels[b] <= 0.0:
                pairs += 1
                concordant += 1.0 if scores[a] > scores[b] else (0.5 if scores[a] == scores[b] else 0.0)
    return concordant / pairs if pairs else 0.5


@kernel
def _sum_list_metrics(scores: np.ndarray, labels: np.ndarray, start: np.ndarray) -> tuple[int, float, float]:
    n_lists, loss, auc = 0, 0.0, 0.0
    for i in range(start.size - 1):
        begin, end = start[i], start[i + 1]
        total = np.float32(0.0)
        for m in range(begin, end):
            total += labels[m]
        if end - begin < 2 or not total > 0.0:
            continue
        s, y = scores[begin:end], labels[begin:end]
        top, norm = s.max(), 0.0
        for m in range(s.size):
            norm += np.exp(s[m] - top)
        for m in range(s.size):
            loss -= y[m] / total * (s[m] - top - np.log(norm)) if y[m] > 0.0 else 0.0
        auc += list_auc(s, y)
        n_lists += 1
    return n_lists, loss, auc


def list_metrics(scores: np.ndarray, labels: np.ndarray, start: np.ndarray) -> tuple[int, float, float]:
    """Number, mean softmax cross entropy and mean AUC of the lists that can train.

    These have two items or more, and a label.

    >>> list_metrics(np.zeros(4, np.float32), np.array([1, 0, 0, 0], np.float32), np.array([0, 2, 4]))
    (1, 0.6931471805599453, 0.5)
    """
    n_lists, loss, auc = _sum_list_metrics(scores, labels, start)
    return (n_lists, loss / n_lists, auc / n_lists) if n_lists else (0, 0.0, 0.5)
