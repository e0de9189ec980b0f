"""A running proof that arms come as often as their logged probabilities say."""

import math

import numpy as np

from stream.jit import kernel

_EDGES = np.array([1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9])  # classes of chances
_STAKES = np.array([0.5, 0.1, 0.02, 0.004])


@kernel
def _update(
    probabilities: np.ndarray, arm: int, edges: np.ndarray, stakes: np.ndarray, counts: np.ndarray, wealth: np.ndarray
) -> None:
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
def _update_many(
    probabilities: np.ndarray, arms: np.ndarray, edges: np.ndarray, stakes: np.ndarray, counts: np.ndarray,
    wealth: np.ndarray,
) -> None:  # fmt: skip
    for draw in range(arms.size):
        _update(probabilities[draw], arms[draw], edges, stakes, counts, wealth)


@kernel
def _log_mean(wealth: np.ndarray) -> float:
    """The log of the mean of what these are the logs of."""
    top, total = wealth.max(), 0.0
    for log in wealth.flat:
        total += math.exp(log - top)
    return float(top + math.log(total / wealth.size))


class PropensityAudit:
    """Bets against the logged chances, by classes of chance, that their arms come more often, or less.

    If the chances are true no bet gains on average, so the mean wealth of all bets ever passes 1 / `false_alarm` with
    a probability of `false_alarm` at most, however long and however often one looks (Ville's inequality).

    >>> check = PropensityAudit()
    >>> for _ in range(200):
    ...     check.update(np.array([0.5, 0.5]), arm=0)
    >>> check.alarm
    False
    >>> for _ in range(200):
    ...     check.update(np.array([0.9, 0.1]), arm=1)
    >>> check.alarm
    True
    """

    def __init__(self, false_alarm: float = 1e-4) -> None:
        if not 0 < false_alarm < 1:
            raise ValueError(f"false_alarm must be a probability between 0 and 1, got {false_alarm}")
        self.false_alarm = false_alarm
        self.alarm = False
        self._counts = np.zeros((_EDGES.size + 1, 3))  # came, expected, variance
        self._wealth = np.zeros((_EDGES.size + 1, 2, _STAKES.size))  # logs

    def update(self, probabilities: np.ndarray, arm: int) -> None:
        """One draw: the chances of all arms that were in question, (n,) float64, and which of them came."""
        self.update_many(probabilities[None], np.array([arm]))

    def update_many(self, probabilities: np.ndarray, arms: np.ndarray) -> None:
        """Draws one after the other, (k, n) float64 and (k,) int64; the alarm is looked for behind the last."""
        _update_many(probabilities, arms, _EDGES, _STAKES, self._counts, self._wealth)
        self.alarm = self.alarm or self.evidence > -math.log(self.false_alarm)

    @property
    def evidence(self) -> float:
        """Log wealth of all bets together; for a metric."""
        return float(_log_mean(self._wealth))

    @property
    def deviations(self) -> np.ndarray:
        """How many standard deviations the arms of each class of chance came too often, (classes,); 0 if none came."""
        observed, expected, variance = self._counts.T
        deviations: np.ndarray = (observed - expected) / np.sqrt(np.maximum(variance, 1e-12))
        return np.where(variance > 0, deviations, 0.0)
