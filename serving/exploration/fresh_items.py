"""The fresh items of one state, with what is counted of them and what became of items like them."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.exploration_budget import Budget
from online_models.bandits.protocols import Judged, Prior
from online_models.bandits.warm_start import WarmStart, posterior
from online_models.state.item_table import Items
from serving.exploration.slate_filling import NOTHING_FRESH, least_shown
from serving.replica.category_neighbors import CategoryBoards
from serving.replica.replica import Replica
from stream.records.batches import EventType

AT_ONCE = 32  # fresh items that are weighed against each other


@dataclass(frozen=True, slots=True)
class Pool:
    """What surely is better or worse than most is not among them."""

    version: str
    rows: np.ndarray  # (n,) int32
    clicks: np.ndarray  # (n,) float64
    shown: np.ndarray  # (n,) float64
    around: Prior  # of n items, before the ranker is asked
    rate: float  # clicks per place, of all items

    def places_of(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the pool stand in it, (m,) int64."""
        order = np.argsort(self.rows)
        places: np.ndarray = order[np.searchsorted(self.rows, rows, sorter=order)]
        return places

    def around_of(self, at: np.ndarray) -> Prior:
        """What the items at these places of the pool lie around."""
        return Prior(self.around.means[at], self.around.spreads[at])


_NONE = np.zeros(0)
NO_POOL = Pool("", NOTHING_FRESH.rows, _NONE, _NONE, Prior(_NONE, _NONE), 0.0)


def pool_of(replica: Replica, budget: Budget, warm: WarmStart) -> Pool:
    """The same state has the same pool, whatever way it has come about."""
    items = replica.stack.items
    impressions = items.counters["ever"][: len(items), EventType.impression]
    rows = least_shown(impressions, replica.eligible, budget.impressions, AT_ONCE)
    rate = min(0.9, float((replica.ever[EventType.click] + 1) / (replica.ever[EventType.impression] + 20)))
    clicks, shown = _counts(items, rows)
    # By its own counts alone: what became of others does not spare an item from being tried.
    still = budget.is_fresh(shown, _judged(rate, clicks, shown), rate)
    around = lie_around(items, replica.boards, rows[still], rate, warm)
    return Pool(replica.version, rows[still], clicks[still], shown[still], around, rate)


def lie_around(items: Items, boards: CategoryBoards, rows: np.ndarray, rate: float, warm: WarmStart) -> Prior:
    """What items lie around, from what became of those with the same categories and a price that is near."""
    alike = boards.alike(rows)
    return warm.around(rate, alike.similarity, _judged(rate, *_counts(items, alike.rows)))


def _counts(items: Items, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clicks, of which none counts that came without a place, and places shown; float64, shaped as `rows`."""
    ever = items.counters["ever"][rows].astype(float)
    shown = ever[..., EventType.impression]
    return np.minimum(ever[..., EventType.click], shown), shown


def _judged(rate: float, clicks: np.ndarray, shown: np.ndarray) -> Judged:
    """What is thought of items by their counts alone."""
    return posterior(Prior(np.full(shown.shape, rate), np.full(shown.shape, rate)), clicks, shown)
