"""Retrieve the candidates of requests from all channels, then exclude and filter items."""

import itertools
from collections.abc import Sequence

import numpy as np

from online_models.model import RecommenderModel
from online_models.retrievers.candidates import Candidates, Exclusions
from online_models.state.item_table import UserQueries
from serving.pipeline.schemas import RecommendationRequest, RequestContext
from serving.replica.replica import Replica
from stream.ids import hash_ids
from stream.records.batches import ragged_starts
from stream.records.signs import is_disliked


def find_exclusions(model: RecommenderModel, contexts: Sequence[RequestContext]) -> Exclusions:
    """Excluded items of each request: by default, all that the user has acted on."""
    parts = []
    for context in contexts:
        parts.append(find_excluded_keys(context))
    return Exclusions(ragged_starts(np.array([part.size for part in parts])), model.items.lookup(np.concatenate(parts)))


def find_excluded_keys(context: RequestContext) -> np.ndarray:
    """Keys, (n,) uint64, of hidden items and of those that the request excludes."""
    request, keys = context.request, _find_hidden_keys(context)
    has_excluded = request.exclude or request.items or request.page_token is not None
    return np.concatenate([keys, request.excluded_keys]) if has_excluded else keys


def _find_hidden_keys(context: RequestContext) -> np.ndarray:
    if context.hidden is not None:
        return context.hidden
    profile = context.profile
    return profile.item[is_disliked(profile.type)] if context.request.repeats else profile.interacted


def retrieve_candidates(
    replica: Replica,
    contexts: Sequence[RequestContext],
    user_queries: UserQueries,
    exclusions: Exclusions,
    cold_start_rows: np.ndarray,
    per_channel: int,
    max_candidates: int,
) -> Candidates:
    """Retrieve up to `max_candidates` per request.

    Popular items fill lists that are shorter than the slate, or than `max_candidates` if rules choose among them.
    `cold_start_rows`: item rows that are candidates of every request.
    """
    found = replica.model.retrieve(user_queries, per_channel, replica.eligible, exclusions, cold_start_rows)
    candidates = truncate(found, max_candidates)
    lengths = np.diff(candidates.start)
    needed = [max_candidates if context.rules else context.request.size for context in contexts]
    has_filters = any(context.request.filters for context in contexts)
    if not has_filters and all(count <= lengths[i] for i, count in enumerate(needed)):
        return candidates
    parts = [
        _filter_and_fill(replica, context.request, candidates, exclusions, i, needed[i], max_candidates)
        for i, context in enumerate(contexts)
    ]
    rows, channels = zip(*parts, strict=True)
    start = ragged_starts(np.array([row.size for row in rows]))
    return Candidates(start, np.concatenate(rows), np.concatenate(channels))


def requested_candidates(replica: Replica, contexts: Sequence[RequestContext]) -> tuple[Candidates, list[str]]:
    """Exactly the requested items, each once, without excluded and filtered ones; and their ids.

    Of the user's items, it leaves out those of `hide` if the request has it.
    """
    item_ids, lengths = [], []
    for context in contexts:
        request = context.request
        ids = list(dict.fromkeys(request.candidates or ()))
        is_excluded = np.isin(hash_ids(ids), request.excluded_keys)
        requested_ids = [item_id for item_id, excluded in zip(ids, is_excluded.tolist(), strict=True) if not excluded]
        keys = hash_ids(requested_ids)
        passing = replica.find_passing(request.filters, replica.model.items.lookup(keys))
        if request.hide is not None and context.hidden is not None:
            passing = passing[~np.isin(keys[passing], context.hidden)]
        item_ids += [requested_ids[i] for i in passing.tolist()]
        lengths.append(passing.size)
    rows = replica.model.items.lookup(hash_ids(item_ids))
    return Candidates(ragged_starts(np.array(lengths)), rows, np.zeros(rows.size, np.uint16)), item_ids


def add_rows(candidates: Candidates, added: Sequence[np.ndarray]) -> Candidates:
    """Candidates of n queries with further rows, n × (a,) int32, which no channel has found."""
    if not any(rows.size for rows in added):
        return candidates
    spans = [slice(*span) for span in itertools.pairwise(candidates.start.tolist())]
    new = [rows[~np.isin(rows, candidates.row[span])] for rows, span in zip(added, spans, strict=True)]
    row = [part for span, rows in zip(spans, new, strict=True) for part in (candidates.row[span], rows)]
    channels = [
        part
        for span, rows in zip(spans, new, strict=True)
        for part in (candidates.channels[span], np.zeros(rows.size, np.uint16))
    ]
    lengths = np.diff(candidates.start) + [rows.size for rows in new]
    return Candidates(ragged_starts(lengths), np.concatenate(row), np.concatenate(channels))


def truncate(candidates: Candidates, max_candidates: int) -> Candidates:
    """Keep the first `max_candidates` of each list."""
    lengths = np.diff(candidates.start)
    if lengths.max(initial=0) <= max_candidates:
        return candidates
    mask = np.arange(candidates.row.size) - np.repeat(candidates.start[:-1], lengths) < max_candidates
    start = ragged_starts(np.minimum(lengths, max_candidates))
    return Candidates(start, candidates.row[mask], candidates.channels[mask])


def _filter_and_fill(
    replica: Replica,
    request: RecommendationRequest,
    candidates: Candidates,
    exclusions: Exclusions,
    i: int,
    needed: int,
    max_candidates: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and channels of request i that pass its filters; popular items fill a short list."""
    span = slice(candidates.start[i], candidates.start[i + 1])
    passing = replica.find_passing(request.filters, candidates.row[span])
    rows, channels = candidates.row[span][passing], candidates.channels[span][passing]
    if rows.size >= needed:
        return rows, channels
    mask = replica.mask_recommendable(request.filters)
    excluded = exclusions.row[exclusions.start[i] : exclusions.start[i + 1]]
    mask[excluded[excluded >= 0]] = False
    mask[rows] = False
    others = replica.popularity.select(mask, max(request.size, max_candidates))
    return np.concatenate([rows, others]), np.concatenate([channels, np.zeros(others.size, np.uint16)])
