"""Routes for the catalog and for similar items."""

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post, put
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from serving.http.errors import Problem, validation_problem
from serving.http.requests import get_service, parse_elements, parse_id, read_body
from serving.ingest.json_bodies import is_list
from serving.pipeline.schemas import MAX_K
from serving.records import PutResult, RefusedRecord, SimilarItem, SimilarItems
from stream.ids import hash_id
from stream.records.catalog import Item, parse_item

_MAX_ITEM_BYTES = 1 << 20
_field_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


@get("/v1/items/{item_id:str}/similar", tags=["items"])
async def get_similar_items(
    state: State, item_id: FromPath[str], k: Annotated[int, QueryParameter(ge=1, le=MAX_K)] = 10
) -> SimilarItems:
    """Return the neighbors of an item, best first."""
    service, decoded_id = get_service(state), parse_id("item_id", item_id)
    if not service.replica.is_known(hash_id(decoded_id)):
        raise _unknown_item(decoded_id)
    neighbors = service.recommender.find_similar(hash_id(decoded_id), k)
    return SimilarItems(decoded_id, [SimilarItem(neighbor_id, score) for neighbor_id, score in neighbors])


@get("/v1/items/{item_id:str}", tags=["items"])
async def get_item(state: State, item_id: FromPath[str]) -> dict[str, Any]:
    """Return an item of the catalog, with `counts` of its events by type.

    The counts are those that the model has learned. An item outside the catalog that events name has counts only.
    """
    replica, decoded_id = get_service(state).replica, parse_id("item_id", item_id)
    key = hash_id(decoded_id)
    item, counts = replica.catalog.json(key), replica.count_events(key)
    if item is None and (replica.is_deleted(key) or not any(counts.values())):
        raise _unknown_item(decoded_id)
    return (item or {"item_id": decoded_id}) | {"counts": counts, "in_catalog": item is not None}


@put("/v1/items/{item_id:str}", tags=["items"])
async def put_item(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> PutResult:
    """Create or replace one item; the body may omit `item_id`."""
    decoded_id = parse_id("item_id", item_id)
    body = await read_body(request)
    raws = parse_elements(body)
    try:
        if is_list(body):
            raise ValueError("the body is a list; expected an item as an object")
        value = msgspec.json.encode({"item_id": decoded_id} | _field_decoder.decode(raws[0]))
        if (body_id := _decode_item(value).item_id) != decoded_id:
            raise ValueError(f"item_id in the body is {body_id!r}; expected {decoded_id!r} as in the path")
    except (ValueError, msgspec.DecodeError) as error:
        raise validation_problem(ValueError(str(error))) from None
    await get_service(state).put_items([(decoded_id, value)])
    return PutResult(1, [])


@post("/v1/items", status_code=202, tags=["items"])
async def post_items(state: State, request: Request[Any, Any, Any]) -> PutResult:
    """Create or replace one item or a list of items.

    Each rejected item is listed under `refused` with its index and reason.
    """
    body = await read_body(request)
    records: list[tuple[str, bytes | None]] = []
    refused: list[RefusedRecord] = []
    for index, raw in enumerate(parse_elements(body)):
        value = bytes(raw)
        try:
            records.append((_decode_item(value).item_id, value))
        except ValueError as error:
            if not is_list(body):
                raise validation_problem(error) from None
            refused.append(RefusedRecord(index, str(error)))
    if records:
        await get_service(state).put_items(records)
    return PutResult(len(records), refused)


@delete("/v1/items/{item_id:str}", status_code=204, tags=["items"])
async def delete_item(state: State, item_id: FromPath[str]) -> None:
    """Delete an item from the catalog; it is no longer recommended.

    An item that only events name is hidden.
    """
    service, decoded_id = get_service(state), parse_id("item_id", item_id)
    if not service.replica.is_known(hash_id(decoded_id)):
        raise _unknown_item(decoded_id)
    await service.put_items([(decoded_id, None)])


def _decode_item(value: bytes) -> Item:
    """Decode an item; ValueError if it is invalid or could not be read back from the log."""
    if len(value) > _MAX_ITEM_BYTES:
        raise ValueError(f"the item has {len(value)} bytes; expected at most {_MAX_ITEM_BYTES}")
    item = parse_item(value)
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"item {item.item_id} is not valid JSON: {error}") from None
    return item


def _unknown_item(item_id: str) -> Problem:
    detail = f"item {item_id!r} is deleted, or neither catalog nor events have it"
    return Problem(404, "Unknown item", detail, field="item_id")


ROUTES = (get_similar_items, get_item, put_item, post_items, delete_item)
