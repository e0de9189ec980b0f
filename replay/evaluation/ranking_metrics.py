"""How good predictions were: places of targets, order of lists, chances against outcomes. Nothing to judge: None."""

from dataclasses import dataclass, field

import numpy as np

_MIN_PROBABILITY = 1e-7  # chances are kept this far from 0 and 1, so that one sure mistake costs about 16 nats


def target_rank(scores: np.ndarray, target: int) -> float:
    """How many entries stand before the target; each that ties with it counts half.

    >>> target_rank(np.array([0.3, 0.9, 0.3, 0.1]), target=0)
    1.5
    """
    target_score = scores[target]
    return float(np.count_nonzero(scores > target_score) + (np.count_nonzero(scores == target_score) - 1) / 2)


def auc_score(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Chance that an entry with label 1 has a greater score than one with label 0; ties count half. None without both.

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


def log_loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of labels 0 or 1, in nats."""
    p = np.clip(probabilities.astype(np.float64), _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)
    return float(-np.where(labels > 0, np.log(p), np.log1p(-p)).mean())


def calibration_ratio(probabilities: np.ndarray, labels: np.ndarray) -> float | None:
    """Expected over observed: 1 is calibrated, 2 promises twice what comes. None when nothing came."""
    observed = float(labels.sum())
    return float(probabilities.sum(dtype=np.float64)) / observed if observed else None


@dataclass(slots=True)
class TopKMetrics:
    """Where targets landed in ranked lists; each question has one target, so recall is the hit rate."""

    k: int
    n_targets: int = 0
    hits: int = 0
    reciprocal_rank_sum: float = 0.0
    dcg_sum: float = 0.0

    def update(self, rank: float) -> None:
        """A target with `place` entries before it; infinity: it is not in the list at all."""
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
    """Lists as they were shown, of which one item was taken: AUC and reciprocal rank, means over lists."""

    n_lists: int = 0
    auc_sum: float = 0.0
    reciprocal_rank_sum: float = 0.0

    def update(self, scores: np.ndarray, clicked: int) -> None:
        """The scores of a list of at least two, (n,), and which entry was taken."""
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
    """Every item shown, with what was predicted when it was shown and whether it was acted on in the window."""

    scores: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)

    def update(self, scores: np.ndarray, probabilities: np.ndarray | None, labels: np.ndarray) -> None:
        """One closed list; `chances` are None for what predicts an order but no probability."""
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
