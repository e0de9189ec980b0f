"""Sequential test that arms are drawn as often as their logged propensities claim."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Error rate, classes of probabilities, and sizes of the bets."""

    false_alarm: float = 1e-4  # probability of an alarm, ever, while all propensities are true
    class_edges: tuple[float, ...] = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9)  # ascending
    stakes: tuple[float, ...] = (0.5, 0.1, 0.02, 0.004)  # shares of its wealth that each bet risks

    def __post_init__(self) -> None:
        if not 0 < self.false_alarm < 1:
            raise ValueError(f"false_alarm must be a probability between 0 and 1, got {self.false_alarm}")
        if not self.stakes or not all(0 < stake < 1 for stake in self.stakes):
            raise ValueError(f"stakes must be shares between 0 and 1, got {self.stakes}")


class _Bets(NamedTuple):
    """Running sums per class of probabilities."""

    edges: np.ndarray  # (classes - 1,) float64
    stakes: np.ndarray  # (stakes,) float64
    counts: np.ndarray  # (classes, 3) float64: observed, expected, variance
    wealth: np.ndarray  # (classes, 2, stakes) float64: logs, of bets on more and on fewer draws


@kernel
def _update(probabilities: np.ndarray, arm: int, bets: _Bets) -> None:
    edges, stakes, counts, wealth = bets
    expected = np.zeros(edges.size + 1)
    arm_group = 0
    for i in range(probabilities.size):
        group = np.searchsorted(edges, probabilities[i])
        expected[group] += probabilities[i]
        if i == arm:
            arm_group = group
    for group in range(expected.size):
        p = expected[group]
        if p < 1e-12 or p > 1.0 - 1e-12:
            continue
        observed = 1.0 if group == arm_group else 0.0
        counts[group, 0] += observed
        counts[group, 1] += p
        counts[group, 2] += p * (1.0 - p)
        for j in range(stakes.size):
            wealth[group, 0, j] += math.log1p(stakes[j] * (observed / p - 1.0))
            wealth[group, 1, j] += math.log1p(stakes[j] * ((1.0 - observed) / (1.0 - p) - 1.0))


@kernel
def _update_many(probabilities: np.ndarray, arms: np.ndarray, bets: _Bets) -> None:
    for draw in range(arms.size):
        _update(probabilities[draw], arms[draw], bets)


@kernel
def _log_mean(log_values: np.ndarray) -> float:
    """Log of the mean of values given by their logs."""
    top, total = log_values.max(), 0.0
    for log_value in log_values.flat:
        total += math.exp(log_value - top)
    return float(top + math.log(total / log_values.size))


class PropensityAudit:
    """Bets, per class of logged probabilities, on more draws and on fewer.

    Null hypothesis: each arm is drawn with its logged probability.
    Statistic: the mean wealth of all bets, each of which starts with 1 and gains nothing on average under the null.
    Threshold: 1 / `false_alarm`, which the wealth ever passes with probability `false_alarm` at most, however often
    one looks (Ville 1939; betting as in Waudby-Smith and Ramdas 2024).
    Alarm: the logged propensities are wrong, and estimates that divide by them are biased.

    >>> audit = PropensityAudit()
    >>> for _ in range(200):
    ...     audit.update(np.array([0.5, 0.5]), arm=0)
    >>> audit.alarm
    False
    >>> for _ in range(200):
    ...     audit.update(np.array([0.9, 0.1]), arm=1)
    >>> audit.alarm
    True
    """

    def __init__(self, settings: AuditSettings = AuditSettings()) -> None:
        self.settings = settings
        self.alarm = False
        edges, stakes = np.array(settings.class_edges), np.array(settings.stakes)
        n_classes = edges.size + 1
        self._bets = _Bets(edges, stakes, np.zeros((n_classes, 3)), np.zeros((n_classes, 2, stakes.size)))

    def update(self, probabilities: np.ndarray, arm: int) -> None:
        """Add one draw: the probabilities of all candidates, (n,) float64, and the drawn arm."""
        self.update_many(probabilities[None], np.array([arm]))

    def update_many(self, probabilities: np.ndarray, arms: np.ndarray) -> None:
        """Add draws in order, (k, n) float64 and (k,) int64; the alarm is checked after the last."""
        _update_many(probabilities, arms, self._bets)
        self.alarm = self.alarm or self.evidence > -math.log(self.settings.false_alarm)

    @property
    def evidence(self) -> float:
        """Log of the mean wealth of all bets."""
        return float(_log_mean(self._bets.wealth))

    @property
    def deviations(self) -> np.ndarray:
        """Observed minus expected draws in standard deviations, (classes,); 0 without draws."""
        observed, expected, variance = self._bets.counts.T
        deviations: np.ndarray = (observed - expected) / np.sqrt(np.maximum(variance, 1e-12))
        return np.where(variance > 0, deviations, 0.0)
