"""What is told of a slate: to who asked, to the log, and to those who watch."""

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
from serving.pipeline.ranking import RankedLists
from serving.pipeline.schemas import (
    ExplorationDetail,
    RecommendationRequest,
    RecommendationResponse,
    RecommendedItem,
    RequestContext,
)
from serving.replica.replica import Replica
from stream.records.feature_codec import encode_features

_CHANNEL_NAME_BY_BIT = {1 << channel: channel.name for channel in Channel}


@dataclass(frozen=True, slots=True)
class Slate:
    """An answer on its way out, with what the impression event tells of it."""

    response: RecommendationResponse
    rows: np.ndarray  # (k,) int32, item rows
    features: np.ndarray  # (k, f) float32, as served
    exploration_arms: ExplorationArms
    filled_slate: FilledSlate


def build_slates(
    replica: Replica,
    contexts: Sequence[RequestContext],
    ranking: RankedLists,
    exploration_arms: Sequence[ExplorationArms],
    filled_slates: Sequence[FilledSlate],
    policy: str,
    item_ids: Sequence[str] | None,
) -> list[Slate]:
    """The slates of the entries chosen, all looked up in one go; `names`: ids of given candidates, by entry."""
    entries = np.concatenate([slate.selection.rows for slate in filled_slates])
    rows, features = ranking.candidates.row[entries], ranking.features[entries]
    items = _build_items(replica, ranking, entries, filled_slates, policy, item_ids)
    slates, start = [], 0
    for slate, arms, filled_slate in zip(contexts, exploration_arms, filled_slates, strict=True):
        span = slice(start, start + filled_slate.selection.rows.size)
        start, slate_items = span.stop, items[span]
        if slate.request.explain:
            slate_items = _add_explanations(replica.model, slate_items, ranking, arms, entries[span])
        response = RecommendationResponse(slate.impression_id, replica.version, slate.is_stale, slate_items)
        slates.append(Slate(response, rows[span], features[span], arms, filled_slate))
    return slates


def _build_items(
    replica: Replica,
    ranking: RankedLists,
    entries: np.ndarray,
    filled_slates: Sequence[FilledSlate],
    policy: str,
    item_ids: Sequence[str] | None,
) -> list[RecommendedItem]:
    """The items of all slates, one behind the other."""
    ids = (
        replica.get_item_ids(ranking.candidates.row[entries])
        if item_ids is None
        else [item_ids[entry] for entry in entries.tolist()]
    )
    explored = np.concatenate([slate.selection.explored for slate in filled_slates]).tolist()
    propensities = np.concatenate([slate.selection.propensities for slate in filled_slates]).tolist()
    default_source = "catalog" if item_ids is None else "requested"
    sources = [
        policy if is_explored else _CHANNEL_NAME_BY_BIT[bits & -bits] if bits else default_source
        for bits, is_explored in zip(ranking.candidates.channels[entries].tolist(), explored, strict=True)
    ]
    scores = np.round(ranking.scores[entries].astype(float), 6).tolist()
    return list(map(RecommendedItem, ids, scores, sources, propensities, explored))


def _add_explanations(
    model: RecommenderModel,
    items: Sequence[RecommendedItem],
    ranking: RankedLists,
    arms: ExplorationArms,
    entries: np.ndarray,
) -> list[RecommendedItem]:
    """The same items, with who found them, what they were judged by and, if they might be drawn, weighed by."""
    details = _exploration_details(arms)
    channel_bits, probabilities = (
        ranking.candidates.channels[entries].tolist(),
        sigmoid(ranking.log_odds[entries]).tolist(),
    )
    features = np.round(ranking.features[entries].astype(float), 5).tolist()
    return [
        msgspec.structs.replace(
            item,
            probability=round(probability, 6),
            channels=[channel.name for channel in Channel if bits >> channel & 1],
            features=dict(zip(model.feature_names, row, strict=True)),
            weighed=details.get(entry),
        )
        for item, entry, bits, probability, row in zip(
            items, entries.tolist(), channel_bits, probabilities, features, strict=True
        )
    ]


def _exploration_details(arms: ExplorationArms) -> dict[int, ExplorationDetail]:
    """What exploration thinks of the entries that may be drawn."""
    numbers = np.round([arms.ranker_probabilities, arms.posteriors.means, arms.posteriors.stds, arms.probabilities], 6)
    return {entry: ExplorationDetail(*row) for entry, row in zip(arms.rows.tolist(), numbers.T.tolist(), strict=True)}


_slate_items_counter = cache(metrics.slate_items.labels)  # finding a series by its label takes longer than to count


def record_metrics(model: RecommenderModel, slates: Sequence[Slate]) -> None:
    """Count what the slates are made of."""
    items = [item for slate in slates for item in slate.response.items]
    for source, count in Counter(item.source for item in items).items():
        _slate_items_counter(source).inc(count)
    metrics.slate_items_explored.inc(sum(item.explored for item in items))
    # How many different first categories there are on each; having none is one.
    rows, slate = _concatenate_parts([slate.rows for slate in slates])
    first_categories = model.items.catalog["categories"][rows[rows >= 0], 0].tolist()
    metrics.slate_categories.inc(len(set(zip(slate[rows >= 0].tolist(), first_categories, strict=True))))


def _concatenate_parts(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All parts one behind the other, and of each entry the part."""
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [part.size for part in parts])


def impression_event(request: RecommendationRequest, slate: Slate, now: int) -> bytes:
    """The event that says what was shown, why, and with which features."""
    response = slate.response
    return msgspec.json.encode(
        {
            "event_id": response.impression_id,
            "type": "impression",
            "ts": now if request.ts is None else request.ts,
            "user_id": request.user_id,
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
