"""Ranking and click metrics: top-k, per-list AUC, log loss, calibration. None without data."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from online_models.rankers.auc import auc_score

_RESAMPLES = 400  # of a bootstrap
_MIN_PROBABILITY = 1e-7  # clipping bound: one confident mistake costs about 16 nats


def target_rank(scores: np.ndarray, target: int) -> float:
    """Rank of the target from 0: entries with a higher score, ties counted half.

    >>> target_rank(np.array([0.3, 0.9, 0.3, 0.1]), target=0)
    1.5
    """
    target_score = scores[target]
    return float(np.count_nonzero(scores > target_score) + (np.count_nonzero(scores == target_score) - 1) / 2)


def target_ranks(start: np.ndarray, scores: np.ndarray, keys: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rank of each list's target, (n,) from 0, ties counted half; infinity if it is missing.

    List i has the scores and keys [start[i], start[i + 1]); no key is twice in a list.

    >>> scores, keys = np.array([1.0, 2.0, 2.0, 5.0, 4.0]), np.array([7, 8, 9, 7, 6])
    >>> target_ranks(np.array([0, 3, 5]), scores, keys, np.array([9, 8]))
    array([0.5, inf])
    """
    n, lengths = target.size, np.diff(start)
    list_index = np.repeat(np.arange(n), lengths)
    target_score = np.full(n, np.nan)
    is_target = keys == np.repeat(target, lengths)
    target_score[list_index[is_target]] = scores[is_target]
    own = np.repeat(target_score, lengths)
    ahead = np.bincount(list_index, scores > own, n) + (np.bincount(list_index, scores == own, n) - 1) / 2
    return np.where(np.isnan(target_score), np.inf, ahead)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of labels 0 or 1, in nats."""
    p = np.clip(probabilities.astype(np.float64), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return float(-np.where(labels > 0, np.log(p), np.log1p(-p)).mean())


def calibration_ratio(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Predicted clicks divided by observed clicks: 1 is calibrated. None without clicks."""
    observed = float(labels.sum())
    return float(probabilities.sum(dtype=np.float64)) / observed if observed else None


def bootstrap_interval(values: np.ndarray, users: np.ndarray, seed: int = 0) -> list[float]:
    """Interval of the mean of n values, [low, high] with 95 %, by a bootstrap over their users.

    Values of one user depend on each other, so whole users get Poisson weights (Chamandy et al. 2012, "Estimating
    uncertainty for massive data streams").

    >>> bootstrap_interval(np.array([0.5, 0.5]), np.array([1, 2]))
    [0.5, 0.5]
    """
    _, index = np.unique(users, return_inverse=True)
    sums, counts = np.bincount(index, values), np.bincount(index)
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(_RESAMPLES):
        weight = rng.poisson(1.0, counts.size)
        if total := weight @ counts:
            means.append((weight @ sums) / total)
    low, high = np.quantile(means, (0.025, 0.975)).tolist()
    return [low, high]


@dataclass(slots=True)
class TopKMetrics:
    """Ranks of targets in recommended lists. With one target per query, recall is the hit rate."""

    k: int
    ranks: list[np.ndarray] = field(default_factory=list)
    users: list[np.ndarray] = field(default_factory=list)

    def update(self, ranks: np.ndarray, users: np.ndarray) -> None:
        """Add ranks of targets, (n,) from 0 or infinity if missing, and the keys of their users."""
        self.ranks.append(ranks)
        self.users.append(users)

    @property
    def n_targets(self) -> int:
        return sum(ranks.size for ranks in self.ranks)

    def values(self) -> dict[str, Any]:
        if not self.n_targets:
            return dict.fromkeys(("hr", "recall", "mrr", "ndcg", "recall_interval"))
        ranks = np.concatenate(self.ranks)
        is_hit = ranks < self.k
        gain = np.where(is_hit, 1 / np.log2(2 + ranks), 0)
        hit_rate = float(is_hit.mean())
        return {
            "hr": hit_rate,
            "recall": hit_rate,
            "mrr": float(np.where(is_hit, 1 / (1 + ranks), 0).mean()),
            "ndcg": float(gain.mean()),
            "recall_interval": bootstrap_interval(is_hit, np.concatenate(self.users)),
        }


@dataclass(slots=True)
class ListMetrics:
    """Mean AUC and reciprocal rank of impressions with exactly one clicked item."""

    n_lists: int = 0
    auc_sum: float = 0.0
    reciprocal_rank_sum: float = 0.0

    def update(self, scores: np.ndarray, clicked: int) -> None:
        """Add the scores of a list of n ≥ 2 items, (n,), and the index of the clicked item."""
        rank = target_rank(scores, clicked)
        self.n_lists += 1
        self.auc_sum += 1 - rank / (scores.size - 1)
        self.reciprocal_rank_sum += 1 / (1 + rank)

    def values(self) -> dict[str, float | None]:
        n = self.n_lists
        return {
            "impression_auc": self.auc_sum / n if n else None,
            "impression_mrr": self.reciprocal_rank_sum / n if n else None,
        }


@dataclass(slots=True)
class ClickMetrics:
    """All shown items: score, predicted probability and label within the attribution window."""

    scores: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)

    def update(self, scores: np.ndarray, probabilities: np.ndarray | None, labels: np.ndarray) -> None:
        """Add a closed impression; `probabilities` is None for a model that predicts only an order."""
        self.scores.append(scores if probabilities is None else probabilities)
        self.labels.append(labels)
        if probabilities is not None:
            self.probabilities.append(probabilities)

    def values(self) -> dict[str, float | None]:
        values: dict[str, float | None] = {"auc": None, "log_loss": None, "calibration": None}
        if self.labels:
            labels = np.concatenate(self.labels)
            values["auc"] = auc_score(np.concatenate(self.scores), labels)
            if self.probabilities:
                probabilities = np.concatenate(self.probabilities)
                values |= {
                    "log_loss": log_loss(probabilities, labels),
                    "calibration": calibration_ratio(probabilities, labels),
                }
        return values
