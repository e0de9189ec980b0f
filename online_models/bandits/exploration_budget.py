"""What fresh items may cost: impressions of each, places of a slate, and clicks."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Posterior


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of exploring. The loss is expected clicks: those of the best arm less those of the arm that is shown."""

    impressions: int = 100  # of an item, after which it is fresh no more
    share: float = 0.1  # of places
    regret: float = 5.0  # clicks per 1,000 places
    confidence: float = 2.0  # spreads by which an item is told from the bar before its impressions are used up

    def __post_init__(self) -> None:
        if self.impressions < 1:
            raise ValueError(f"impressions must be at least 1, got {self.impressions}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}")
        for name in ("regret", "confidence"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")

    def is_cold_start(self, n_shown: np.ndarray, posterior: Posterior, threshold: float) -> np.ndarray:
        """Which of n arms still are to be explored, (n,) bool; `shown`: impressions of each, `bar`: the rate to reach.

        An arm graduates when its impressions are used up, or when it surely is better than the bar, or worse.

        >>> posterior = Posterior(np.array([0.1, 0.9, 0.1]), np.array([0.3, 0.1, 0.3]))
        >>> Budget(impressions=50).is_cold_start(np.array([7, 7, 50]), posterior, threshold=0.2).tolist()
        [True, False, False]
        """
        is_decided = np.abs(posterior.means - threshold) > self.confidence * posterior.stds
        is_cold: np.ndarray = (n_shown < self.impressions) & ~is_decided
        return is_cold


def expected_regret(best: float, means: np.ndarray, probabilities: np.ndarray) -> float:
    """Clicks lost by one place that goes to an arm by `chances`, (n,), and not to the best, whose mean is `best`.

    >>> expected_regret(0.5, np.array([0.5, 0.1]), np.array([0.5, 0.5]))
    0.2
    """
    return max(0.0, best - float(means @ probabilities))


class RegretLedger:
    """Keeps what exploring is expected to cost within `loss` per 1,000 places, at every time.

    Places earn the right to lose clicks; what was not used is kept for `memory` places, so that a quiet day does not
    pay for a wild one.

    >>> ledger = RegretLedger(Budget(share=0.5, regret=100.0))
    >>> ledger.allowed_share(positions=10, regret=0.4)
    0.25
    >>> ledger.spend(positions=10, share=0.25, regret=0.4)
    >>> ledger.allowed_share(positions=10, regret=0.0)
    0.5
    """

    def __init__(self, budget: Budget, memory: int = 10_000) -> None:
        if memory < 1:
            raise ValueError(f"memory must be at least 1 place, got {memory}")
        self.budget = budget
        self.positions = 0
        self.total_regret = 0.0  # expected clicks, ever
        self._max_balance = budget.regret * memory / 1000
        self._balance = 0.0

    def allowed_share(self, positions: int, regret: float) -> float:
        """Share of the next places that may be explored, when each such place loses `loss` clicks; changes nothing."""
        balance = min(self._max_balance, self._balance + self.budget.regret * positions / 1000)
        return min(self.budget.share, balance / (positions * regret)) if regret > 0 else self.budget.share

    def spend(self, positions: int, share: float, regret: float) -> None:
        """Say that places were filled so."""
        self.positions += positions
        self.total_regret += positions * share * regret
        balance = min(self._max_balance, self._balance + self.budget.regret * positions / 1000)
        self._balance = max(0.0, balance - positions * share * regret)
