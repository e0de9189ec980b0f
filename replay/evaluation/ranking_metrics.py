"""Ranking and click metrics: top-k, per-list AUC, log loss, calibration. None without data."""

from dataclasses import dataclass, field

import numpy as np

from online_models.rankers.auc import auc_score

_MIN_PROBABILITY = 1e-7  # clipping bound: one confident mistake costs about 16 nats


def target_rank(scores: np.ndarray, target: int) -> float:
    """Rank of the target from 0: entries with a higher score, ties counted half.

    >>> target_rank(np.array([0.3, 0.9, 0.3, 0.1]), target=0)
    1.5
    """
    target_score = scores[target]
    return float(np.count_nonzero(scores > target_score) + (np.count_nonzero(scores == target_score) - 1) / 2)


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of labels 0 or 1, in nats."""
    p = np.clip(probabilities.astype(np.float64), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return float(-np.where(labels > 0, np.log(p), np.log1p(-p)).mean())


def calibration_ratio(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Predicted clicks divided by observed clicks: 1 is calibrated. None without clicks."""
    observed = float(labels.sum())
    return float(probabilities.sum(dtype=np.float64)) / observed if observed else None


@dataclass(slots=True)
class TopKMetrics:
    """Ranks of targets in recommended lists. With one target per query, recall is the hit rate."""

    k: int
    n_targets: int = 0
    hits: int = 0
    reciprocal_rank_sum: float = 0.0
    dcg_sum: float = 0.0

    def update(self, rank: float) -> None:
        """Add the rank of a target, from 0; infinity if the list does not contain it."""
        self.n_targets += 1
        if rank < self.k:
            self.hits += 1
            self.reciprocal_rank_sum += 1 / (1 + rank)
            self.dcg_sum += 1 / np.log2(2 + rank)

    def values(self) -> dict[str, float | None]:
        n = self.n_targets
        hit_rate = self.hits / n if n else None
        return {
            "hr": hit_rate,
            "recall": hit_rate,
            "mrr": self.reciprocal_rank_sum / n if n else None,
            "ndcg": float(self.dcg_sum) / n if n else None,
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
