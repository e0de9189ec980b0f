"""Routes of popular, trending and newest items, for nobody in particular."""

from typing import Annotated, Any

import msgspec
import numpy as np
from litestar import Request, get
from litestar.datastructures import State

from serving.filters.language import Filters
from serving.http.operations import Operation, contract
from serving.http.parameters import decode_query
from serving.http.requests import get_service
from serving.pipeline.schemas import MAX_K
from serving.records import BoardItem, ItemBoard
from serving.replica.replica import Replica


class BoardQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Query of a board of items."""

    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_K, description="Maximum number of items.")] = 10
    filters: Annotated[Filters | None, msgspec.Meta(description="Conditions that every item meets, as JSON.")] = None
    exclude: Annotated[list[str], msgspec.Meta(description="Items that must not be among them.")] = []


_BOARD = Operation(
    access="recommend", query=BoardQuery, query_example={"k": "1"}, response=ItemBoard,
    response_example={"items": [{"item_id": "kettle"}]},
)  # fmt: skip


@get("/v1/popular", tags=["recommendations"], opt=contract(_BOARD))
async def list_popular(state: State, request: Request[Any, Any, Any]) -> ItemBoard:
    """List the items with the most actions over a day, a week and two months, in turns.

    Items without actions fill a short list. No impression is logged.
    """
    return _list_board(state, request, "popular")


@get("/v1/trending", tags=["recommendations"], opt=contract(_BOARD))
async def list_trending(state: State, request: Request[Any, Any, Any]) -> ItemBoard:
    """List the items whose actions of the last hour exceed their rate of the week most.

    The most popular others fill a short list. No impression is logged.
    """
    return _list_board(state, request, "trending")


@get("/v1/newest", tags=["recommendations"], opt=contract(_BOARD))
async def list_newest(state: State, request: Request[Any, Any, Any]) -> ItemBoard:
    """List the newest items, by `created_ts` or else their first event.

    The most popular others fill a short list. No impression is logged.
    """
    return _list_board(state, request, "newest")


def _list_board(state: State, request: Request[Any, Any, Any], name: str) -> ItemBoard:
    service, query = get_service(state), decode_query(request.query_params, BoardQuery)
    mask = service.replica.mask_candidates(query.filters, query.exclude)
    rows = select_board(service.replica, name, mask, query.k, service.clock.now_ms())
    items = [BoardItem(item_id) for item_id in service.replica.get_item_ids(rows)]
    return ItemBoard(items, None if items else "no available item passes filters and exclude")


def select_board(replica: Replica, name: str, mask: np.ndarray, k: int, now: int) -> np.ndarray:
    """Up to k rows of a board, (n,) int32, that the mask has; popular items follow."""
    ranked = replica.model.rank_board(name, now, 3 * k, mask)  # the boards of popular overlap
    ranked = ranked[ranked >= 0]
    _, first = np.unique(ranked, return_index=True)
    rows = ranked[np.sort(first)][:k]
    others = mask.astype(np.bool_)
    others[rows] = False
    selection: np.ndarray = np.concatenate([rows, replica.popularity.select(others, k - rows.size)])
    return selection


ROUTES = (list_popular, list_trending, list_newest)
