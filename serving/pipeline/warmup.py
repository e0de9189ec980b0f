"""An answer tried before the first one is asked for, on a shop made up for it, so that nobody waits for a compiler."""

import numpy as np

from online_models.bandits.warm_start import WarmStart
from online_models.model import RecommenderModel
from online_models.rankers.click_head import sigmoid
from online_models.retrievers.top_k import Exclusions
from serving.exploration.explorer import COLD_START_BIT, Explorer
from serving.exploration.fresh_items import FreshItemPool, neighbor_priors
from serving.exploration.slate_filling import fill, select_least_shown
from serving.pipeline.ranking import rank
from serving.replica.category_neighbors import CategoryLeaderboards
from stream.users.profiles import EMPTY_PROFILE, queries_from_profiles

_ITEM_COUNT = 12


def warm_up(explorer: Explorer) -> None:
    """Compile what an answer needs."""
    model, keys = RecommenderModel(), np.arange(1, _ITEM_COUNT + 1, dtype=np.uint64)
    model.set_item_attributes(
        keys, np.repeat(keys[:, None], 4, axis=1), np.zeros(_ITEM_COUNT, np.int64), np.ones(_ITEM_COUNT, np.float32)
    )
    eligible, rows = np.ones(_ITEM_COUNT, np.uint8), np.arange(_ITEM_COUNT, dtype=np.int32)
    cold_start_rows = select_least_shown(np.zeros(_ITEM_COUNT, np.int32), eligible, budget=1, count=2)
    user_queries = model.items.resolve_queries(queries_from_profiles([EMPTY_PROFILE], [1], [1], [0], [[]]))
    candidates = model.retrieve(user_queries, 10, eligible, Exclusions(np.array([0, 1]), rows[:1]), cold_start_rows)
    ranking = rank(model, user_queries, candidates, feedback_weight=0.5, top_n=10)
    entries = np.flatnonzero(candidates.channels & COLD_START_BIT)
    neighbor_prior = neighbor_priors(model.items, CategoryLeaderboards(model.items), cold_start_rows, 0.1, WarmStart())
    explorer.set_pool(FreshItemPool("", cold_start_rows, np.zeros(2), np.zeros(2), neighbor_prior, 0.1))
    probabilities, baseline_values = sigmoid(ranking.log_odds[entries]).astype(float), np.array([0.1])
    estimates = explorer.ranker_estimate(model, candidates.row[entries], ranking.features, entries, probabilities)
    (exploration_arms,) = explorer.build_cold_start_arms(
        entries, candidates.row[entries], np.array([0, entries.size]), estimates, baseline_values, 10
    )
    explorer.record_slate(
        exploration_arms, fill(ranking.get_top_entries(0), exploration_arms, 10, np.random.default_rng(0))
    )
