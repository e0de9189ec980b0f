"""How good predictions were: places of targets, order of lists, chances against outcomes. Nothing to judge: None."""

from dataclasses import dataclass, field

import numpy as np

_LEAST = 1e-7  # chances are kept this far from 0 and 1, so that one sure mistake costs about 16 nats


def place_of(scores: np.ndarray, target: int) -> float:
    """How many entries stand before the target; each that ties with it counts half.

    >>> place_of(np.array([0.3, 0.9, 0.3, 0.1]), target=0)
    1.5
    """
    own = scores[target]
    return float(np.count_nonzero(scores > own) + (np.count_nonzero(scores == own) - 1) / 2)


def auc_of(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Chance that an entry with label 1 has a greater score than one with label 0; ties count half. None without both.

    >>> auc_of(np.array([0.3, 0.9, 0.3, 0.1]), np.array([1, 0, 0, 0]))
    0.5
    """
    taken = labels > 0
    n_taken, n_left = int(taken.sum()), int((~taken).sum())
    if not n_taken or not n_left:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # mean rank of each distinct score, from 1
    return float((rank[inverse][taken].sum() - n_taken * (n_taken + 1) / 2) / (n_taken * n_left))


def log_loss_of(chances: np.ndarray, labels: np.ndarray) -> float:
    """Mean negative log likelihood of labels 0 or 1, in nats."""
    p = np.clip(chances.astype(np.float64), _LEAST, 1 - _LEAST)
    return float(-np.where(labels > 0, np.log(p), np.log1p(-p)).mean())


def calibration_of(chances: np.ndarray, labels: np.ndarray) -> float | None:
    """Expected over observed: 1 is calibrated, 2 promises twice what comes. None when nothing came."""
    observed = float(labels.sum())
    return float(chances.sum(dtype=np.float64)) / observed if observed else None


@dataclass(slots=True)
class Targets:
    """Where targets landed in ranked lists; each question has one target, so recall is the hit rate."""

    k: int
    judged: int = 0
    hits: int = 0
    reciprocal: float = 0.0
    gain: float = 0.0

    def see(self, place: float) -> None:
        """A target with `place` entries before it; infinity: it is not in the list at all."""
        self.judged += 1
        if place < self.k:
            self.hits += 1
            self.reciprocal += 1 / (1 + place)
            self.gain += 1 / np.log2(2 + place)

    def values(self) -> dict[str, float | None]:
        n = self.judged
        rate = self.hits / n if n else None
        return {
            "hr": rate,
            "recall": rate,
            "mrr": self.reciprocal / n if n else None,
            "ndcg": float(self.gain) / n if n else None,
        }


@dataclass(slots=True)
class Ordered:
    """Lists as they were shown, of which one item was taken: AUC and reciprocal rank, means over lists."""

    judged: int = 0
    auc: float = 0.0
    reciprocal: float = 0.0

    def see(self, scores: np.ndarray, taken: int) -> None:
        """The scores of a list of at least two, (n,), and which entry was taken."""
        place = place_of(scores, taken)
        self.judged += 1
        self.auc += 1 - place / (scores.size - 1)
        self.reciprocal += 1 / (1 + place)

    def values(self) -> dict[str, float | None]:
        n = self.judged
        return {"impression_auc": self.auc / n if n else None, "impression_mrr": self.reciprocal / n if n else None}


@dataclass(slots=True)
class Outcomes:
    """Every item shown, with what was predicted when it was shown and whether it was acted on in the window."""

    scores: list[np.ndarray] = field(default_factory=list)
    chances: list[np.ndarray] = field(default_factory=list)
    labels: list[np.ndarray] = field(default_factory=list)

    def see(self, scores: np.ndarray, chances: np.ndarray | None, labels: np.ndarray) -> None:
        """One closed list; `chances` are None for what predicts an order but no probability."""
        self.scores.append(scores if chances is None else chances)
        self.labels.append(labels)
        if chances is not None:
            self.chances.append(chances)

    def values(self) -> dict[str, float | None]:
        values: dict[str, float | None] = {"auc": None, "log_loss": None, "calibration": None}
        if self.labels:
            labels = np.concatenate(self.labels)
            values["auc"] = auc_of(np.concatenate(self.scores), labels)
            if self.chances:
                chances = np.concatenate(self.chances)
                values |= {"log_loss": log_loss_of(chances, labels), "calibration": calibration_of(chances, labels)}
        return values
