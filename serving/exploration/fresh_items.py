"""Pool of fresh items of one replica state, with their counts and neighbor priors."""

from dataclasses import dataclass

import numpy as np

from online_models.bandits.exploration_budget import Budget
from online_models.bandits.protocols import Posterior, Prior
from online_models.bandits.warm_start import WarmStart, update_prior
from online_models.state.item_table import ItemTable
from serving.exploration.slate_filling import NO_ARMS
from serving.replica.category_neighbors import CategoryLeaderboards
from serving.replica.replica import Replica
from stream.jit import kernel
from stream.records.batches import EventType

MAX_COLD_START_ITEMS = 32  # fresh items per pool


@dataclass(frozen=True, slots=True)
class FreshItemPool:
    """The n items to explore, without those surely better or worse than the average."""

    revision: str  # of the replica
    rows: np.ndarray  # (n,) int32
    clicks: np.ndarray  # (n,) float64
    impressions: np.ndarray  # (n,) float64
    neighbor_prior: Prior  # of n items, without the ranker's prediction
    rate: float  # clicks per slate position, over all items

    def find_indices(self, rows: np.ndarray) -> np.ndarray:
        """Indices of item rows in the pool, (m,) int64."""
        order = np.argsort(self.rows)
        indices: np.ndarray = order[np.searchsorted(self.rows, rows, sorter=order)]
        return indices

    def select_neighbor_prior(self, indices: np.ndarray) -> Prior:
        """Neighbor priors at these indices of the pool."""
        return Prior(self.neighbor_prior.means[indices], self.neighbor_prior.stds[indices])


_EMPTY = np.zeros(0)
EMPTY_POOL = FreshItemPool("", NO_ARMS.rows, _EMPTY, _EMPTY, Prior(_EMPTY, _EMPTY), 0.0)


def build_pool(replica: Replica, budget: Budget, warm_start: WarmStart) -> FreshItemPool:
    """Build the pool from the replica's state alone, so that equal states give equal pools."""
    items, totals = replica.model.items, replica.event_totals
    total_impressions = items.counters["total_counts"][: len(items), EventType.impression]
    rows = select_least_shown(total_impressions, replica.is_new_eligible, budget.impressions, MAX_COLD_START_ITEMS)
    rate = min(0.9, float((totals[EventType.click] + 1) / (totals[EventType.impression] + 20)))
    clicks, impressions = _count_clicks(items, rows)
    # By its own counts alone: feedback on similar items does not exempt an item from exploration.
    posteriors = _posteriors_from_counts(rate, clicks, impressions)
    is_cold_start = budget.is_cold_start(impressions, posteriors, rate)
    rows, clicks, impressions = rows[is_cold_start], clicks[is_cold_start], impressions[is_cold_start]
    neighbor_prior = neighbor_priors(items, replica.leaderboards, rows, rate, warm_start)
    return FreshItemPool(replica.revision, rows, clicks, impressions, neighbor_prior, rate)


def select_least_shown(impressions: np.ndarray, eligible: np.ndarray, budget: int, count: int) -> np.ndarray:
    """Rows of up to `count` eligible items with less than `budget` impressions.

    The least shown come first, of equals the newest.

    `impressions` is by row, (n,) int32.

    >>> select_least_shown(np.array([0, 9, 1, 0], np.int32), np.ones(4, np.uint8), budget=5, count=3).tolist()
    [3, 0, 2]
    """
    rows_by_count, sizes = np.empty((budget, count), np.int32), np.zeros(budget, np.int64)
    _select_least_shown(impressions, eligible, rows_by_count, sizes)
    rows: np.ndarray = rows_by_count[np.arange(count) < sizes[:, None]][:count]
    return rows


@kernel
def _select_least_shown(
    impressions: np.ndarray, eligible: np.ndarray, rows_by_count: np.ndarray, sizes: np.ndarray
) -> None:
    """Collect the newest rows of each number of impressions; stop when no better row can follow."""
    for row in range(impressions.size - 1, -1, -1):
        count = impressions[row]
        if count < sizes.size and eligible[row] and sizes[count] < rows_by_count.shape[1]:
            rows_by_count[count, sizes[count]] = row
            sizes[count] += 1
            if sizes[0] == rows_by_count.shape[1]:
                return


def neighbor_priors(
    items: ItemTable, leaderboards: CategoryLeaderboards, rows: np.ndarray, rate: float, warm_start: WarmStart
) -> Prior:
    """Priors of items from click rates of items with equal categories and a similar price."""
    neighbors = leaderboards.find_neighbors(rows)
    neighbor_posteriors = _posteriors_from_counts(rate, *_count_clicks(items, neighbors.rows))
    return warm_start.from_neighbors(rate, neighbors.similarity, neighbor_posteriors)


def _count_clicks(items: ItemTable, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Clicks, at most one per impression, and impressions; float64, shaped as `rows`."""
    totals = items.counters["total_counts"][rows].astype(float)
    impressions = totals[..., EventType.impression]
    return np.minimum(totals[..., EventType.click], impressions), impressions


def _posteriors_from_counts(rate: float, clicks: np.ndarray, impressions: np.ndarray) -> Posterior:
    """Posteriors of click rates from own counts alone, with the general rate as prior."""
    return update_prior(Prior(np.full(impressions.shape, rate), np.full(impressions.shape, rate)), clicks, impressions)
