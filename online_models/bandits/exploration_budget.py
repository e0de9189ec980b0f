"""What fresh items may cost: impressions of each, places of a slate, and clicks."""

import math
from dataclasses import dataclass

import numpy as np

from online_models.bandits.protocols import Judged


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of exploring. The loss is expected clicks: those of the best arm less those of the arm that is shown."""

    impressions: int = 100  # of an item, after which it is fresh no more
    share: float = 0.1  # of places
    loss: float = 5.0  # clicks per 1,000 places
    sure: float = 2.0  # spreads by which an item is told from the bar before its impressions are used up

    def __post_init__(self) -> None:
        if self.impressions < 1:
            raise ValueError(f"impressions must be at least 1, got {self.impressions}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"share must be from 0 to 1, got {self.share}")
        for name in ("loss", "sure"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a positive number, got {getattr(self, name)}")

    def is_fresh(self, shown: np.ndarray, judged: Judged, bar: float) -> np.ndarray:
        """Which of n arms still are to be explored, (n,) bool; `shown`: impressions of each, `bar`: the rate to reach.

        An arm graduates when its impressions are used up, or when it surely is better than the bar, or worse.

        >>> judged = Judged(np.array([0.1, 0.9, 0.1]), np.array([0.3, 0.1, 0.3]))
        >>> Budget(impressions=50).is_fresh(np.array([7, 7, 50]), judged, bar=0.2).tolist()
        [True, False, False]
        """
        told = np.abs(judged.means - bar) > self.sure * judged.spreads
        fresh: np.ndarray = (shown < self.impressions) & ~told
        return fresh


def expected_loss(best: float, means: np.ndarray, chances: np.ndarray) -> float:
    """Clicks lost by one place that goes to an arm by `chances`, (n,), and not to the best, whose mean is `best`.

    >>> expected_loss(0.5, np.array([0.5, 0.1]), np.array([0.5, 0.5]))
    0.2
    """
    return max(0.0, best - float(means @ chances))


class Ledger:
    """Keeps what exploring is expected to cost within `loss` per 1,000 places, at every time.

    Places earn the right to lose clicks; what was not used is kept for `memory` places, so that a quiet day does not
    pay for a wild one.

    >>> ledger = Ledger(Budget(share=0.5, loss=100.0))
    >>> ledger.share(places=10, loss=0.4)
    0.25
    >>> ledger.spend(places=10, share=0.25, loss=0.4)
    >>> ledger.share(places=10, loss=0.0)
    0.5
    """

    def __init__(self, budget: Budget, memory: int = 10_000) -> None:
        if memory < 1:
            raise ValueError(f"memory must be at least 1 place, got {memory}")
        self.budget = budget
        self.places = 0
        self.lost = 0.0  # expected clicks, ever
        self._most = budget.loss * memory / 1000
        self._room = 0.0

    def share(self, places: int, loss: float) -> float:
        """Share of the next places that may be explored, when each such place loses `loss` clicks; changes nothing."""
        room = min(self._most, self._room + self.budget.loss * places / 1000)
        return min(self.budget.share, room / (places * loss)) if loss > 0 else self.budget.share

    def spend(self, places: int, share: float, loss: float) -> None:
        """Say that places were filled so."""
        self.places += places
        self.lost += places * share * loss
        earned = min(self._most, self._room + self.budget.loss * places / 1000)
        self._room = max(0.0, earned - places * share * loss)
