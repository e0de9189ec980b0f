"""Compile the kernels of a request on a small generated catalog."""

import numpy as np

from online_models.bandits.slate_sampling import SlateConstraints
from online_models.bandits.warm_start import WarmStart
from online_models.model import RecommenderModel
from online_models.rankers.click_head import sigmoid
from online_models.retrievers.candidates import Exclusions
from serving.exploration.explorer import COLD_START_BIT, Explorer
from serving.exploration.fresh_items import FreshItemPool, neighbor_priors, select_least_shown
from serving.exploration.slate_filling import fill
from serving.filters.columns import ItemColumns
from serving.filters.language import Filters
from serving.filters.matching import match
from serving.filters.popularity import PopularityOrder
from serving.pipeline.ranking import rank
from serving.replica.category_neighbors import CategoryLeaderboards
from stream.users.profiles import EMPTY_PROFILE, queries_from_profiles

_ITEM_COUNT = 12


def warm_up(explorer: Explorer) -> None:
    """Run each stage of the pipeline once; `explorer` is left with the state of the run."""
    model, keys = RecommenderModel(), np.arange(1, _ITEM_COUNT + 1, dtype=np.uint64)
    categories, prices = np.repeat(keys[:, None], 4, axis=1), np.ones(_ITEM_COUNT, np.float32)
    model.set_item_attributes(keys, categories, np.zeros(_ITEM_COUNT, np.int64), prices)
    eligible, rows = np.ones(_ITEM_COUNT, np.uint8), np.arange(_ITEM_COUNT, dtype=np.int32)
    cold_start_rows = select_least_shown(np.zeros(_ITEM_COUNT, np.int32), eligible, budget=1, count=2)
    user_queries = model.items.resolve_queries(queries_from_profiles([EMPTY_PROFILE], [1], [1], [0], [[]]))
    candidates = model.retrieve(user_queries, 10, eligible, Exclusions(np.array([0, 1]), rows[:1]), cold_start_rows)
    ranking = rank(model, user_queries, candidates, feedback_weight=0.5, top_n=10)
    entries = np.flatnonzero(candidates.channels & COLD_START_BIT)
    arm_rows, start = candidates.row[entries], np.array([0, entries.size])
    neighbor_prior = neighbor_priors(model.items, CategoryLeaderboards(model.items), cold_start_rows, 0.1, WarmStart())
    explorer.set_pool(FreshItemPool("", cold_start_rows, np.zeros(2), np.zeros(2), neighbor_prior, 0.1))
    probabilities = sigmoid(ranking.log_odds[entries]).astype(float)
    estimates = explorer.ranker_estimate(model, arm_rows, ranking.features, entries, probabilities)
    (arms,) = explorer.build_cold_start_arms(entries, arm_rows, start, estimates, np.array([0.1]), 10)
    _warm_up_filters(model, rows)
    for constraints in (None, SlateConstraints(np.full(10, -1), 0, np.zeros((rows.size, 1), np.int32), np.full(1, 10))):
        slate = fill(ranking.get_top_entries(0), arms, 10, np.random.default_rng(0), constraints)
        explorer.record_slate(arms, slate)


def _warm_up_filters(model: RecommenderModel, rows: np.ndarray) -> None:
    columns = ItemColumns()
    columns.write(rows, [{"categories": ["a"]}] * rows.size)
    mask = match(columns, Filters(categories=["a", "b"]), rows, rows.size)
    mask &= match(columns, Filters(categories=["a"]), slice(0, rows.size), rows.size)
    PopularityOrder(model.items).select(mask, 1)
