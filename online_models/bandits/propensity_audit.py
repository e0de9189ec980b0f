"""A running proof that arms come as often as their logged probabilities say."""

import math

import numpy as np

from stream.jit import kernel

_EDGES = np.array([1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 0.6, 0.9])  # classes of chances
_STAKES = np.array([0.5, 0.1, 0.02, 0.004])


@kernel
def _see(
    chances: np.ndarray, chosen: int, edges: np.ndarray, stakes: np.ndarray, counts: np.ndarray, wealth: np.ndarray
) -> None:
    told = np.zeros(edges.size + 1)
    of_chosen = 0
    for i in range(chances.size):
        group = np.searchsorted(edges, chances[i])
        told[group] += chances[i]
        if i == chosen:
            of_chosen = group
    for group in range(told.size):
        p = told[group]
        if p < 1e-12 or p > 1.0 - 1e-12:
            continue
        came = 1.0 if group == of_chosen else 0.0
        counts[group, 0] += came
        counts[group, 1] += p
        counts[group, 2] += p * (1.0 - p)
        for j in range(stakes.size):
            wealth[group, 0, j] += math.log1p(stakes[j] * (came / p - 1.0))
            wealth[group, 1, j] += math.log1p(stakes[j] * ((1.0 - came) / (1.0 - p) - 1.0))


@kernel
def _see_all(
    chances: np.ndarray, chosen: np.ndarray, edges: np.ndarray, stakes: np.ndarray, counts: np.ndarray,
    wealth: np.ndarray,
) -> None:  # fmt: skip
    for draw in range(chosen.size):
        _see(chances[draw], chosen[draw], edges, stakes, counts, wealth)


@kernel
def _log_mean(wealth: np.ndarray) -> float:
    """The log of the mean of what these are the logs of."""
    top, total = wealth.max(), 0.0
    for log in wealth.flat:
        total += math.exp(log - top)
    return float(top + math.log(total / wealth.size))


class PropensityCheck:
    """Bets against the logged chances, by classes of chance, that their arms come more often, or less.

    If the chances are true no bet gains on average, so the mean wealth of all bets ever passes 1 / `false_alarm` with
    a probability of `false_alarm` at most, however long and however often one looks (Ville's inequality).

    >>> check = PropensityCheck()
    >>> for _ in range(200):
    ...     check.see(np.array([0.5, 0.5]), chosen=0)
    >>> check.alarm
    False
    >>> for _ in range(200):
    ...     check.see(np.array([0.9, 0.1]), chosen=1)
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

    def see(self, chances: np.ndarray, chosen: int) -> None:
        """One draw: the chances of all arms that were in question, (n,) float64, and which of them came."""
        self.see_all(chances[None], np.array([chosen]))

    def see_all(self, chances: np.ndarray, chosen: np.ndarray) -> None:
        """Draws one after the other, (k, n) float64 and (k,) int64; the alarm is looked for behind the last."""
        _see_all(chances, chosen, _EDGES, _STAKES, self._counts, self._wealth)
        self.alarm = self.alarm or self.evidence > -math.log(self.false_alarm)

    @property
    def evidence(self) -> float:
        """Log wealth of all bets together; for a metric."""
        return float(_log_mean(self._wealth))

    @property
    def deviations(self) -> np.ndarray:
        """How many standard deviations the arms of each class of chance came too often, (classes,); 0 if none came."""
        came, expected, variance = self._counts.T
        deviations: np.ndarray = (came - expected) / np.sqrt(np.maximum(variance, 1e-12))
        return np.where(variance > 0, deviations, 0.0)
