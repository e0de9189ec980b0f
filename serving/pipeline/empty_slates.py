"""Reasons for empty slates."""

import numpy as np

from serving.filters.matching import explain_unknown_attributes
from serving.pipeline.schemas import RecommendationRequest
from serving.replica.replica import Replica
from stream.ids import hash_ids


def explain_empty_slate(replica: Replica, request: RecommendationRequest) -> str:
    """Reason that a request gets no items, with the next step."""
    if request.candidates is not None:
        return _explain_candidates(replica, request)
    available_rows = np.flatnonzero(replica.eligible[: len(replica.model.items)]).astype(np.int32)
    if not available_rows.size:
        if len(replica.catalog):
            return "no item of the catalog is available"
        if replica.is_catalog_only:
            return "the catalog is empty and items.catalog_only is set; send items to POST /v1/items"
        return "no items are known; send items to POST /v1/items, or events that name them to POST /v1/events"
    passing = replica.find_passing(request.filters, available_rows)
    if not passing.size:
        advice = explain_unknown_attributes(replica.columns, request.filters) if request.filters else ""
        return f"none of {available_rows.size} available items passes filters; {advice or 'relax them'}"
    excluded = np.isin(replica.model.items.keys[available_rows[passing]], hash_ids(request.exclude))
    if excluded.all():
        return f"exclude names each of the {passing.size} items that pass"
    if request.page_token is not None:
        return "earlier pages have had every item that passes"
    return "the user has interacted with every item that passes; set repeats to true to allow these"


def _explain_candidates(replica: Replica, request: RecommendationRequest) -> str:
    excluded = set(request.exclude)
    candidates = [item_id for item_id in request.candidates or () if item_id not in excluded]
    if not candidates:
        return "candidates has no item that exclude does not name"
    rows = replica.model.items.lookup(hash_ids(candidates))
    if request.filters is not None and not replica.find_passing(request.filters, rows).size:
        return "none of the candidates passes filters"
    return "none of the candidates can be shown"
