"""Routes that list the catalog and change fields of an item."""

from typing import Annotated, Any

import msgspec
import numpy as np
from litestar import Request, get, patch
from litestar.datastructures import State
from litestar.params import FromPath

from online_models.state.item_table import LISTED
from serving.http.errors import Problem, validation_problem
from serving.http.operations import Operation, contract
from serving.http.parameters import decode_query
from serving.http.requests import get_service, parse_elements, parse_id, read_body
from serving.ingest.json_bodies import is_list
from serving.records import ItemPage, ItemPatch, PutResult
from serving.replica.replica import Replica
from stream.ids import hash_id
from stream.records.catalog import is_deletion, parse_item

_MAX_LIMIT = 1000
_ITEM_ID = {"item_id": "kettle"}
_ITEM = {"item_id": "kettle", "title": "Kettle", "categories": ["kitchen"], "price": 29.0}


class ItemsQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Query of the items of the catalog."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=_MAX_LIMIT, description="Maximum number of items.")] = 100
    page_token: Annotated[
        int, msgspec.Meta(ge=0, le=2**31, description="Token of the page before; without it, the first page.")
    ] = 0


_LIST_ITEMS = Operation(
    access="recommend", query=ItemsQuery, query_example={"limit": "2"}, response=ItemPage,
    response_example={"items": [_ITEM], "total": 1},
)  # fmt: skip
_PATCH_ITEM = Operation(
    access="ingest", path_example=_ITEM_ID, request=ItemPatch, request_example={"price": 25.0, "stock": 3},
    response=PutResult, response_example={"accepted": 1, "refused": [], "status": "accepted"}, errors=(404,),
)  # fmt: skip


@get("/v1/items", tags=["items"], opt=contract(_LIST_ITEMS))
async def list_items(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """List the items of the catalog with all of their fields, in pages.

    Send `page_token` of a page to get the next one; the last page has none. Items that are added meanwhile come last.
    """
    query = decode_query(request.query_params, ItemsQuery)
    return list_page(get_service(state).replica, query.page_token, query.limit)


def list_page(replica: Replica, first_row: int, limit: int) -> dict[str, Any]:
    """Up to `limit` items from a row of the item table on."""
    table = replica.model.items
    rows = first_row + np.flatnonzero(table.catalog["status"][first_row : len(table)] == LISTED)[: limit + 1]
    items = [replica.catalog.json(key) for key in table.keys[rows[:limit]].tolist()]
    page = {"items": [item for item in items if item is not None], "total": len(replica.catalog)}
    return page if rows.size <= limit else page | {"page_token": str(rows[limit])}


@patch("/v1/items/{item_id:str}", tags=["items"], opt=contract(_PATCH_ITEM))
async def patch_item(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> PutResult:
    """Change the fields of an item that the body has; null removes a field.

    The other fields stay (JSON Merge Patch, RFC 7396, at the top level).
    """
    service, decoded_id = get_service(state), parse_id("item_id", item_id)
    body = await read_body(request)
    (changes, *_) = parse_elements(body) or [msgspec.Raw(b"[]")]

    def merge(item: dict[str, Any] | None) -> bytes:
        if item is None:
            raise Problem(404, "Unknown item", f"the catalog does not have item {decoded_id!r}", field="item_id")
        try:
            return _merge(item, b"[]" if is_list(body) else bytes(changes))
        except (ValueError, msgspec.DecodeError) as error:
            raise validation_problem(ValueError(str(error))) from None

    await service.change_item(decoded_id, lambda: merge(service.replica.catalog.json(hash_id(decoded_id))))
    return PutResult(1, [], "accepted")


def _merge(item: dict[str, Any], changes: bytes) -> bytes:
    """Item with the changed fields; ValueError if it is invalid."""
    fields = msgspec.json.decode(changes, type=dict[str, Any])
    if is_deletion(msgspec.json.decode(changes, type=dict[str, msgspec.Raw])):
        raise ValueError("deleted is true; expected fields of the item: DELETE deletes it")
    if fields.get("item_id", item["item_id"]) != item["item_id"]:
        raise ValueError(f"item_id in the body is {fields['item_id']!r}; expected {item['item_id']!r} as in the path")
    merged = {name: value for name, value in (item | fields).items() if value is not None}
    value = msgspec.json.encode(merged)
    parse_item(value)
    return value


ROUTES = (list_items, patch_item)
