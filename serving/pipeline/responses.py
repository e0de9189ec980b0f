"""What is told of a slate: to who asked, to the log, and to those who watch."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import msgspec
import numpy as np

from online_models.model import Stack
from online_models.rankers.click_head import chance_of
from online_models.retrievers.candidates import Channel
from serving import metrics
from serving.exploration.slate_filling import Chosen, Fresh
from serving.pipeline.ranking import Ranked
from serving.pipeline.schemas import Answer, Asked, Question, Recommended, Weighed
from serving.replica.replica import Replica
from stream.records.feature_codec import encode_features

_FIRST_CHANNEL = {1 << channel: channel.name for channel in Channel}


@dataclass(frozen=True, slots=True)
class Slate:
    """An answer on its way out, with what the impression event tells of it."""

    answer: Answer
    rows: np.ndarray  # (k,) int32, item rows
    features: np.ndarray  # (k, f) float32, as served
    fresh: Fresh
    chosen: Chosen


def slates_of(
    replica: Replica,
    asked: Sequence[Asked],
    judged: Ranked,
    weighed: Sequence[Fresh],
    chosen: Sequence[Chosen],
    policy: str,
    names: Sequence[str] | None,
) -> list[Slate]:
    """The slates of the entries chosen, all looked up in one go; `names`: ids of given candidates, by entry."""
    at = np.concatenate([one.placed.rows for one in chosen])
    rows, features = judged.found.row[at], judged.features[at]
    items = _listed(replica, judged, at, chosen, policy, names)
    slates, begin = [], 0
    for one, fresh, places in zip(asked, weighed, chosen, strict=True):
        span = slice(begin, begin + places.placed.rows.size)
        begin, of_one = span.stop, items[span]
        if one.question.explain:
            of_one = _explained(replica.stack, of_one, judged, fresh, at[span])
        answer = Answer(one.impression_id, replica.version, one.stale, of_one)
        slates.append(Slate(answer, rows[span], features[span], fresh, places))
    return slates


def _listed(
    replica: Replica,
    judged: Ranked,
    at: np.ndarray,
    chosen: Sequence[Chosen],
    policy: str,
    names: Sequence[str] | None,
) -> list[Recommended]:
    """The items of all slates, one behind the other."""
    ids = replica.names_of(judged.found.row[at]) if names is None else [names[entry] for entry in at.tolist()]
    explored = np.concatenate([one.placed.explored for one in chosen]).tolist()
    propensities = np.concatenate([one.placed.propensities for one in chosen]).tolist()
    otherwise = "catalogue" if names is None else "given"
    sources = [
        policy if drawn else _FIRST_CHANNEL[bits & -bits] if bits else otherwise
        for bits, drawn in zip(judged.found.channels[at].tolist(), explored, strict=True)
    ]
    scores = np.round(judged.scores[at].astype(float), 6).tolist()
    return list(map(Recommended, ids, scores, sources, propensities, explored))


def _explained(
    stack: Stack, items: Sequence[Recommended], judged: Ranked, fresh: Fresh, at: np.ndarray
) -> list[Recommended]:
    """The same items, with who found them, what they were judged by and, if they might be drawn, weighed by."""
    weighed = _weighed(fresh)
    found, chances = judged.found.channels[at].tolist(), chance_of(judged.odds[at]).tolist()
    features = np.round(judged.features[at].astype(float), 5).tolist()
    return [
        msgspec.structs.replace(
            item,
            probability=round(chance, 6),
            channels=[channel.name for channel in Channel if bits >> channel & 1],
            features=dict(zip(stack.feature_names, row, strict=True)),
            weighed=weighed.get(entry),
        )
        for item, entry, bits, chance, row in zip(items, at.tolist(), found, chances, features, strict=True)
    ]


def _weighed(fresh: Fresh) -> dict[int, Weighed]:
    """What exploration thinks of the entries that may be drawn."""
    numbers = np.round([fresh.told, fresh.judged.means, fresh.judged.spreads, fresh.chances], 6)
    return {entry: Weighed(*row) for entry, row in zip(fresh.rows.tolist(), numbers.T.tolist(), strict=True)}


_places_of = cache(metrics.places.labels)  # finding a series by its label takes longer than to count


def tell(stack: Stack, slates: Sequence[Slate]) -> None:
    """Count what the slates are made of."""
    items = [item for slate in slates for item in slate.answer.items]
    for source, places in Counter(item.source for item in items).items():
        _places_of(source).inc(places)
    metrics.places_explored.inc(sum(item.explored for item in items))
    # How many different first categories there are on each; having none is one.
    rows, slate = _joined([slate.rows for slate in slates])
    first = stack.items.catalogue["categories"][rows[rows >= 0], 0].tolist()
    metrics.slate_categories.inc(len(set(zip(slate[rows >= 0].tolist(), first, strict=True))))


def _joined(parts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """All parts one behind the other, and of each entry the part."""
    return np.concatenate(parts), np.repeat(np.arange(len(parts)), [part.size for part in parts])


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
