"""Which items may stand on a slate: what the channels find, less what is hidden from a person or filtered out."""

from collections.abc import Sequence

import numpy as np

from online_models.model import RecommenderModel
from online_models.retrievers.candidates import Candidates
from online_models.retrievers.top_k import Exclusions
from online_models.state.item_table import UserQueries
from serving.pipeline.schemas import Filters, RecommendationRequest
from serving.replica.replica import Replica
from stream.ids import hash_ids
from stream.records.batches import ragged_starts
from stream.users.profiles import Profile

_EMPTY = np.zeros(0, np.uint64)


def find_exclusions(
    model: RecommenderModel, requests: Sequence[RecommendationRequest], profiles: Sequence[Profile]
) -> Exclusions:
    """What each person has met, unless repeats are welcome, and what each question excludes."""
    interacted_keys = [
        _EMPTY if request.repeats else profile.interacted for request, profile in zip(requests, profiles, strict=True)
    ]
    parts = [
        np.concatenate([keys, hash_ids(request.exclude)]) if request.exclude else keys
        for request, keys in zip(requests, interacted_keys, strict=True)
    ]
    return Exclusions(ragged_starts(np.array([part.size for part in parts])), model.items.lookup(np.concatenate(parts)))


def retrieve_candidates(
    replica: Replica,
    requests: Sequence[RecommendationRequest],
    user_queries: UserQueries,
    exclusions: Exclusions,
    cold_start_rows: np.ndarray,
    per_channel: int,
    max_candidates: int,
) -> Candidates:
    """At most `most` candidates for each question, but never fewer than it asks for while there are any.

    `fresh`: item rows that are found for everybody.
    """
    candidates = truncate(
        replica.model.retrieve(user_queries, per_channel, replica.eligible, exclusions, cold_start_rows), max_candidates
    )
    lengths = np.diff(candidates.start)
    if not any(request.filters for request in requests) and all(
        request.size <= lengths[i] for i, request in enumerate(requests)
    ):
        return candidates
    parts = [
        _apply_filters(replica, request, candidates, exclusions, i, max_candidates)
        for i, request in enumerate(requests)
    ]
    rows, channels = zip(*parts, strict=True)
    return Candidates(
        ragged_starts(np.array([row.size for row in rows])), np.concatenate(rows), np.concatenate(channels)
    )


def requested_candidates(
    model: RecommenderModel, requests: Sequence[RecommendationRequest]
) -> tuple[Candidates, list[str]]:
    """Exactly the items asked for, once each, but for what the question excludes or filters out; with their ids."""
    item_ids, lengths = [], []
    for request in requests:
        requested_ids = [
            item_id for item_id in dict.fromkeys(request.candidates or ()) if item_id not in set(request.exclude)
        ]
        passing = _find_passing(model, request.filters, model.items.lookup(hash_ids(requested_ids)))
        item_ids += [requested_ids[i] for i in passing.tolist()]
        lengths.append(passing.size)
    rows = model.items.lookup(hash_ids(item_ids))
    return Candidates(ragged_starts(np.array(lengths)), rows, np.zeros(rows.size, np.uint16)), item_ids


def truncate(candidates: Candidates, max_candidates: int) -> Candidates:
    """The first `most` candidates of each list."""
    lengths = np.diff(candidates.start)
    if lengths.max(initial=0) <= max_candidates:
        return candidates
    mask = np.arange(candidates.row.size) - np.repeat(candidates.start[:-1], lengths) < max_candidates
    return Candidates(
        ragged_starts(np.minimum(lengths, max_candidates)), candidates.row[mask], candidates.channels[mask]
    )


def _apply_filters(
    replica: Replica,
    request: RecommendationRequest,
    candidates: Candidates,
    exclusions: Exclusions,
    i: int,
    max_candidates: int,
) -> tuple[np.ndarray, np.ndarray]:
    """What passes the question's filters, and where that is too little for a slate whatever else may be shown."""
    model, span = replica.model, slice(candidates.start[i], candidates.start[i + 1])
    passing = _find_passing(model, request.filters, candidates.row[span])
    rows, channels = candidates.row[span][passing], candidates.channels[span][passing]
    if rows.size >= request.size:
        return rows, channels
    others = np.flatnonzero(replica.eligible[: len(model.items)]).astype(np.int32)
    others = np.setdiff1d(others, exclusions.row[exclusions.start[i] : exclusions.start[i + 1]])
    others = np.setdiff1d(others[_find_passing(model, request.filters, others)], rows)[
        : max(request.size, max_candidates)
    ]
    return np.concatenate([rows, others]), np.concatenate([channels, np.zeros(others.size, np.uint16)])


def _find_passing(model: RecommenderModel, filters: Filters | None, rows: np.ndarray) -> np.ndarray:
    """Places of the rows that pass the filters; an item never heard of passes none."""
    if filters is None:
        return np.arange(rows.size)
    catalog = model.items.catalog
    mask = rows >= 0
    if filters.categories is not None:
        category_keys = hash_ids([category for category in filters.categories if category])
        mask &= np.isin(catalog["categories"][rows], category_keys).any(axis=1)
    price = catalog["price"][rows]
    if filters.min_price is not None:
        mask &= price >= _to_stored_price(filters.min_price)
    if filters.max_price is not None:
        mask &= price <= _to_stored_price(filters.max_price)
    return np.flatnonzero(mask)


def _to_stored_price(price: float) -> np.float32:
    """A price as the catalogue's column holds it, so that a bound lets through the item of that very price."""
    return np.float32(max(-1e30, min(1e30, price)))
