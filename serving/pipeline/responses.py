"""Build the outputs of a slate: the response, the impression event and the metrics."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np

from online_models.model import RecommenderModel
from online_models.rankers.click_head import sigmoid
from online_models.retrievers.candidates import Channel
from serving import metrics
from serving.exploration.slate_filling import ExplorationArms, FilledSlate
from serving.pipeline.empty_slates import explain_empty_slate
from serving.pipeline.pages import MAX_ITEMS, decode_page, encode_page
from serving.pipeline.ranking import RankedLists
from serving.pipeline.schemas import (
    ExplorationDetail,
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    RequestContext,
)
from serving.replica.replica import Replica
from serving.rules.stage import SlatePlan
from stream.ids import hash_id, hash_ids
from stream.records.feature_codec import encode_features

_CHANNEL_NAME_BY_BIT = {1 << channel: channel.name for channel in Channel}


@dataclass(frozen=True, slots=True)
class Slate:
    """A response of k items, with the data of its impression event."""

    response: RecommendationResponse
    rows: np.ndarray  # (k,) int32, item rows
    features: np.ndarray  # (k, f) float32, as served
    exploration_arms: ExplorationArms
    filled_slate: FilledSlate
    is_private: bool = False  # no impression is logged


def build_slates(
    replica: Replica,
    contexts: Sequence[RequestContext],
    ranking: RankedLists,
    exploration_arms: Sequence[ExplorationArms],
    filled_slates: Sequence[FilledSlate],
    plans: Sequence[SlatePlan],
    policy: str,
    item_ids: Sequence[str] | None,
) -> list[Slate]:
    """Build the slates of n requests.

    `item_ids`: ids of requested candidates by entry; None for retrieved candidates.
    """
    entries = np.concatenate([slate.selection.rows for slate in filled_slates])
    rows, features = ranking.candidates.row[entries], ranking.features[entries]
    all_items = _build_items(replica, ranking, entries, filled_slates, policy, item_ids)
    slates, start = [], 0
    for context, arms, filled_slate, plan in zip(contexts, exploration_arms, filled_slates, plans, strict=True):
        span = slice(start, start + filled_slate.selection.rows.size)
        start, items = span.stop, all_items[span]
        if context.request.explain:
            items = _add_explanations(replica.model, items, ranking, arms, entries[span])
        if context.request.fields:
            items = _add_fields(replica, items, context.request.fields)
        if plan.constraints is not None:
            items = _mark_pinned(items, plan.is_pinned(entries[span]))
        reason = plan.shortage if items or plan.shortage else explain_empty_slate(replica, context.request)
        applied = plan.count_applied(filled_slate) if context.rules else None
        token = _next_page_token(context.request, items)
        response = RecommendationResponse(
            context.impression_id, replica.version, context.is_stale, items, reason, token, applied
        )
        slates.append(Slate(response, rows[span], features[span], arms, filled_slate, context.is_private))
    return slates


def _build_items(
    replica: Replica,
    ranking: RankedLists,
    entries: np.ndarray,
    filled_slates: Sequence[FilledSlate],
    policy: str,
    item_ids: Sequence[str] | None,
) -> list[RecommendedItem]:
    """Items of all slates, concatenated."""
    if item_ids is None:
        ids, default_source = replica.get_item_ids(ranking.candidates.row[entries]), "catalog"
    else:
        ids, default_source = [item_ids[entry] for entry in entries.tolist()], "requested"
    explored = np.concatenate([slate.selection.explored for slate in filled_slates]).tolist()
    propensities = np.concatenate([slate.selection.propensities for slate in filled_slates]).tolist()
    sources = [
        policy if is_explored else _CHANNEL_NAME_BY_BIT[bits & -bits] if bits else default_source
        for bits, is_explored in zip(ranking.candidates.channels[entries].tolist(), explored, strict=True)
    ]
    scores = np.round(ranking.scores[entries].astype(float), 6).tolist()
    return list(map(RecommendedItem, ids, scores, sources, propensities, explored))


def _next_page_token(request: RecommendationRequest, items: Sequence[RecommendedItem]) -> str | None:
    """Token of the next page; None after a page that is not full, and after `MAX_ITEMS` items."""
    if not items or len(items) < request.size:
        return None
    keys = hash_ids([item.item_id for item in items])
    if request.page_token is not None:
        keys = np.concatenate([decode_page(request.page_token), keys])
    return encode_page(keys) if keys.size < MAX_ITEMS else None


def _mark_pinned(items: Sequence[RecommendedItem], is_pinned: np.ndarray) -> list[RecommendedItem]:
    """Items with the source `pinned` where positions are fixed."""
    return [
        msgspec.structs.replace(item, source="pinned") if pinned else item
        for item, pinned in zip(items, is_pinned.tolist(), strict=True)
    ]


def _add_explanations(
    model: RecommenderModel,
    items: Sequence[RecommendedItem],
    ranking: RankedLists,
    arms: ExplorationArms,
    entries: np.ndarray,
) -> list[RecommendedItem]:
    """Add channels, features, click probability and the exploration estimate to items."""
    details = _exploration_details(arms)
    channel_bits = ranking.candidates.channels[entries].tolist()
    probabilities = sigmoid(ranking.log_odds[entries]).tolist()
    features = np.round(ranking.features[entries].astype(float), 5).tolist()
    return [
        msgspec.structs.replace(
            item,
            probability=round(probability, 6),
            channels=[channel.name for channel in Channel if bits >> channel & 1],
            features=dict(zip(model.feature_names, row, strict=True)),
            exploration=details.get(entry),
        )
        for item, entry, bits, probability, row in zip(
            items, entries.tolist(), channel_bits, probabilities, features, strict=True
        )
    ]


def _add_fields(replica: Replica, items: Sequence[RecommendedItem], names: Sequence[str]) -> list[RecommendedItem]:
    """Add the fields of these names that the catalog has of each item."""
    catalog_items = [replica.catalog.json(hash_id(item.item_id)) or {} for item in items]
    return [
        msgspec.structs.replace(item, fields={name: fields[name] for name in names if name in fields})
        for item, fields in zip(items, catalog_items, strict=True)
    ]


def _exploration_details(arms: ExplorationArms) -> dict[int, ExplorationDetail]:
    """Exploration estimates by entry."""
    numbers = np.round([arms.ranker_probabilities, arms.posteriors.means, arms.posteriors.stds, arms.probabilities], 6)
    return {entry: ExplorationDetail(*row) for entry, row in zip(arms.rows.tolist(), numbers.T.tolist(), strict=True)}


_rules_applied_counter = cache(metrics.rules_applied.labels)
_slate_items_counter = cache(metrics.slate_items.labels)  # finding a series by its label takes longer than counting


def record_metrics(model: RecommenderModel, slates: Sequence[Slate]) -> None:
    """Count the items, explored items and distinct categories of slates."""
    items = [item for slate in slates for item in slate.response.items]
    for source, count in Counter(item.source for item in items).items():
        _slate_items_counter(source).inc(count)
    for slate in slates:
        for rule, count in (slate.response.rules_applied or {}).items():
            _rules_applied_counter(rule).inc(count)
    metrics.slate_items_explored.inc(sum(item.explored for item in items))
    metrics.slate_categories.inc(_count_first_categories(model, [slate.rows for slate in slates]))


def _count_first_categories(model: RecommenderModel, slate_rows: Sequence[np.ndarray]) -> int:
    """Distinct first categories per slate, summed; no category counts as one."""
    rows, slate = np.concatenate(slate_rows), np.repeat(np.arange(len(slate_rows)), [part.size for part in slate_rows])
    is_known = rows >= 0
    first_categories = model.items.catalog["categories"][rows[is_known], 0].tolist()
    return len(set(zip(slate[is_known].tolist(), first_categories, strict=True)))


def impression_event(request: RecommendationRequest, slate: Slate, now: int) -> bytes:
    """Encode the impression event: items with their sources, propensities and features."""
    response = slate.response
    return msgspec.json.encode(
        {
            "event_id": response.impression_id,
            "type": "impression",
            "ts": request.event_ts(now),
            "user_id": request.user_id,
            "session_id": request.session_id,
            "impression_id": response.impression_id,
            "surface": request.surface or None,
            "items": [item.item_id for item in response.items],
            "propensities": [item.propensity for item in response.items],
            "sources": [item.source for item in response.items],
            "model_version": response.model_version,
            "context": request.context,
            "features": encode_features(slate.features),
        }
    )
