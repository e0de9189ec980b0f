"""The fresh items of one state, with what is counted of them and what became of items like them."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.exploration_budget import Budget
from online_models.bandits.protocols import Posterior, Prior
from online_models.bandits.warm_start import WarmStart, update_prior
from online_models.state.item_table import ItemTable
from serving.exploration.slate_filling import NO_ARMS, select_least_shown
from serving.replica.category_neighbors import CategoryLeaderboards
from serving.replica.replica import Replica
from stream.records.batches import EventType

MAX_COLD_START_ITEMS = 32  # fresh items that are weighed against each other


@dataclass(frozen=True, slots=True)
class FreshItemPool:
    """What surely is better or worse than most is not among them."""

    version: str
    rows: np.ndarray  # (n,) int32
    clicks: np.ndarray  # (n,) float64
    impressions: np.ndarray  # (n,) float64
    neighbor_prior: Prior  # of n items, before the ranker is asked
    rate: float  # clicks per place, of all items

    def find_indices(self, rows: np.ndarray) -> np.ndarray:
        """Where rows of the pool stand in it, (m,) int64."""
        order = np.argsort(self.rows)
        indices: np.ndarray = order[np.searchsorted(self.rows, rows, sorter=order)]
        return indices

    def select_neighbor_prior(self, indices: np.ndarray) -> Prior:
        """What the items at these places of the pool lie around."""
        return Prior(self.neighbor_prior.means[indices], self.neighbor_prior.stds[indices])


_EMPTY = np.zeros(0)
EMPTY_POOL = FreshItemPool("", NO_ARMS.rows, _EMPTY, _EMPTY, Prior(_EMPTY, _EMPTY), 0.0)


def build_pool(replica: Replica, budget: Budget, warm_start: WarmStart) -> FreshItemPool:
    """The same state has the same pool, whatever way it has come about."""
    items = replica.model.items
    total_impressions = items.counters["total_counts"][: len(items), EventType.impression]
    rows = select_least_shown(total_impressions, replica.eligible, budget.impressions, MAX_COLD_START_ITEMS)
    rate = min(
        0.9, float((replica.event_totals[EventType.click] + 1) / (replica.event_totals[EventType.impression] + 20))
    )
    clicks, impression_counts = _count_clicks(items, rows)
    # By its own counts alone: what became of others does not spare an item from being tried.
    is_cold_start = budget.is_cold_start(
        impression_counts, _posteriors_from_counts(rate, clicks, impression_counts), rate
    )
    neighbor_prior = neighbor_priors(items, replica.leaderboards, rows[is_cold_start], rate, warm_start)
    return FreshItemPool(
        replica.version,
        rows[is_cold_start],
        clicks[is_cold_start],
        impression_counts[is_cold_start],
        neighbor_prior,
        rate,
    )


def neighbor_priors(
    items: ItemTable, leaderboards: CategoryLeaderboards, rows: np.ndarray, rate: float, warm_start: WarmStart
) -> Prior:
    """What items lie around, from what became of those with the same categories and a price that is near."""
    neighbors = leaderboards.find_neighbors(rows)
    return warm_start.from_neighbors(
        rate, neighbors.similarity, _posteriors_from_counts(rate, *_count_clicks(items, neighbors.rows))
    )


def _count_clicks(items: ItemTable, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clicks, of which none counts that came without a place, and places shown; float64, shaped as `rows`."""
    totals = items.counters["total_counts"][rows].astype(float)
    impressions = totals[..., EventType.impression]
    return np.minimum(totals[..., EventType.click], impressions), impressions


def _posteriors_from_counts(rate: float, clicks: np.ndarray, impressions: np.ndarray) -> Posterior:
    """What is thought of items by their counts alone."""
    return update_prior(Prior(np.full(impressions.shape, rate), np.full(impressions.shape, rate)), clicks, impressions)
