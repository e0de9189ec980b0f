"""What is told of a slate: to who asked, to the log, and to those who watch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np

from online_models.rankers.chances import chance_of
from online_models.retrievers.channels import Channel
from online_models.stack import Stack
from serving import metrics
from serving.explore import Chosen, Fresh
from serving.questions import Answer, Question, Recommended
from serving.ranking import Ranked
from serving.replica import Replica
from stream.intake import encode_features

_FIRST_CHANNEL = {1 << channel: channel.name for channel in Channel}


@dataclass(frozen=True, slots=True)
class Slate:
    """An answer on its way out, with what the impression event tells of it."""

    answer: Answer
    rows: np.ndarray  # (k,) int32, item rows
    features: np.ndarray  # (k, f) float32, as served
    fresh: Fresh
    chosen: Chosen


def slate_of(
    replica: Replica,
    question: Question,
    impression_id: str,
    stale: bool,
    judged: Ranked,
    fresh: Fresh,
    chosen: Chosen,
    policy: str,
    names: Sequence[str] | None,
) -> Slate:
    """The slate of the entries chosen; `names`: ids of given candidates, by entry."""
    placed, at = chosen.placed, chosen.placed.rows
    rows, features, channels = judged.found.row[at], judged.features[at], judged.found.channels[at].tolist()
    ids = replica.names_of(rows) if names is None else [names[entry] for entry in at.tolist()]
    explored = placed.explored.tolist()
    otherwise = "catalogue" if names is None else "given"
    sources = [
        policy if drawn else _FIRST_CHANNEL[bits & -bits] if bits else otherwise
        for bits, drawn in zip(channels, explored, strict=True)
    ]
    scores = np.round(judged.scores[at].astype(float), 6).tolist()
    items = list(map(Recommended, ids, scores, sources, placed.propensities.tolist(), explored))
    if question.explain:
        items = _explained(replica.stack, items, channels, judged.odds[at], features)
    return Slate(Answer(impression_id, replica.version, stale, items), rows, features, fresh, chosen)


def _explained(
    stack: Stack, items: Sequence[Recommended], channels: Sequence[int], odds: np.ndarray, features: np.ndarray
) -> list[Recommended]:
    """The same items, with who found them and what they were judged by."""
    return [
        msgspec.structs.replace(
            item,
            probability=round(probability, 6),
            channels=[channel.name for channel in Channel if bits >> channel & 1],
            features=dict(zip(stack.feature_names, np.round(row.astype(float), 5).tolist(), strict=True)),
        )
        for item, bits, probability, row in zip(items, channels, chance_of(odds).tolist(), features, strict=True)
    ]


_places_of = cache(metrics.places.labels)  # finding a series by its label takes longer than to count


def tell(stack: Stack, slates: Sequence[Slate]) -> None:
    """Count what the slates are made of."""
    for source, places in Counter(item.source for slate in slates for item in slate.answer.items).items():
        _places_of(source).inc(places)
    metrics.places_explored.inc(sum(int(slate.chosen.placed.explored.sum()) for slate in slates))
    # How many different first categories there are on each; having none is one.
    categories = stack.items.catalogue["categories"]
    metrics.slate_categories.inc(sum(len(set(categories[slate.rows[slate.rows >= 0], 0].tolist())) for slate in slates))


def impression(question: Question, slate: Slate, now: int) -> bytes:
    """The event that says what was shown, why, and with which features."""
    answer = slate.answer
    return msgspec.json.encode(
        {
            "event_id": answer.impression_id,
            "type": "impression",
            "ts": now if question.ts is None else question.ts,
            "user_id": question.user_id,
            "impression_id": answer.impression_id,
            "surface": question.surface or None,
            "items": [item.item_id for item in answer.items],
            "propensities": [item.propensity for item in answer.items],
            "sources": [item.source for item in answer.items],
            "model_version": answer.model_version,
            "context": question.context,
            "features": encode_features(slate.features),
        }
    )
