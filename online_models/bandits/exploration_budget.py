"""Limits on exploration: impressions per item, share of positions, and expected clicks lost."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of exploration; regret is the best arm's expected clicks minus the shown arm's."""

    impressions: int = 100  # per item; after these it is no longer fresh
    share: float = 0.1  # of slate positions
    regret: float = 5.0  # clicks per 1,000 positions
    confidence: float = 2.0  # standard deviations from the threshold at which an item is decided early

    def __post_init__(self) -> None:
        if self.impressions < 1:
            raise ValueError(f"impressions must be at least 1, got {self.impressions}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}")
        for name in ("regret", "confidence"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")

    def is_cold_start(self, impressions: np.ndarray, posterior: Posterior, threshold: float) -> np.ndarray:
        """Mark which of n arms still need exploration, (n,) bool.

        An arm graduates when it has used up its impressions, or when its rate is surely above or below `threshold`.

        >>> posterior = Posterior(np.array([0.1, 0.9, 0.1]), np.array([0.3, 0.1, 0.3]))
        >>> Budget(impressions=50).is_cold_start(np.array([7, 7, 50]), posterior, threshold=0.2).tolist()
        [True, False, False]
        """
        is_decided = np.abs(posterior.means - threshold) > self.confidence * posterior.stds
        is_cold: np.ndarray = (impressions < self.impressions) & ~is_decided
        return is_cold


def expected_regret(best: float, means: np.ndarray, probabilities: np.ndarray) -> float:
    """Clicks lost per position that shows an arm drawn by `probabilities`, (n,), not the best.

    >>> expected_regret(0.5, np.array([0.5, 0.1]), np.array([0.5, 0.5]))
    0.2
    """
    return max(0.0, best - float(means @ probabilities))


class RegretLedger:
    """Keeps the expected regret below the budget per 1,000 positions, at every moment.

    Every position earns credit that exploration spends. Credit of more than `memory` positions expires, so that a
    quiet day does not pay for excessive exploration on the next.

    >>> ledger = RegretLedger(Budget(share=0.5, regret=100.0))
    >>> ledger.allowed_share(positions=10, regret=0.4)
    0.25
    >>> ledger.spend(positions=10, share=0.25, regret=0.4)
    >>> ledger.allowed_share(positions=10, regret=0.0)
    0.5
    """

    def __init__(self, budget: Budget, memory: int = 10_000) -> None:
        if memory < 1:
            raise ValueError(f"memory must be at least 1 position, got {memory}")
        self.budget = budget
        self.positions = 0
        self.total_regret = 0.0  # expected clicks since the start
        self._max_balance = budget.regret * memory / 1000
        self._balance = 0.0

    def allowed_share(self, positions: int, regret: float) -> float:
        """Share of the next positions that may explore, if each of these loses `regret` clicks."""
        balance = self._balance_after(positions)
        return min(self.budget.share, balance / (positions * regret)) if regret > 0 else self.budget.share

    def spend(self, positions: int, share: float, regret: float) -> None:
        """Record filled positions, of which this share explored at this regret each."""
        self.positions += positions
        self.total_regret += positions * share * regret
        self._balance = max(0.0, self._balance_after(positions) - positions * share * regret)

    def _balance_after(self, positions: int) -> float:
        """Credit once these positions have earned theirs, in clicks."""
        return min(self._max_balance, self._balance + self.budget.regret * positions / 1000)
