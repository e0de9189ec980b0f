"""The catalogue over HTTP: items in, out and beside one another."""

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post, put
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from serving.http.errors import Problem, validation_problem
from serving.http.requests import get_service, parse_elements, parse_id, read_body
from serving.ingest.json_bodies import is_list
from serving.pipeline.schemas import MAX_K
from stream.ids import hash_id
from stream.records.catalog import Item, parse_item

_MAX_ITEM_BYTES = 1 << 20
_field_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


@get("/v1/items/{item_id:str}/similar", tags=["items"])
async def get_similar_items(
    state: State, item_id: FromPath[str], k: Annotated[int, QueryParameter(ge=1, le=MAX_K)] = 10
) -> dict[str, Any]:
    """Neighbours of an item, best first."""
    service, decoded_id = get_service(state), parse_id("item_id", item_id)
    if service.replica.catalog.get(hash_id(decoded_id)) is None:
        raise _item_not_found(decoded_id)
    neighbors = service.recommender.find_similar(hash_id(decoded_id), k)
    return {
        "item_id": decoded_id,
        "items": [{"item_id": neighbor_id, "score": score} for neighbor_id, score in neighbors],
    }


@get("/v1/items/{item_id:str}", tags=["items"])
async def get_item(state: State, item_id: FromPath[str]) -> dict[str, Any]:
    """An item as it was put, with `counts` of events by type as the learner knows them.

    An item that people met, but that never was in the catalogue, has counts alone.
    """
    replica, decoded_id = get_service(state).replica, parse_id("item_id", item_id)
    key = hash_id(decoded_id)
    item, counts = replica.catalog.json(key), replica.count_events(key)
    if item is None and (replica.catalog.is_deleted(key) or not any(counts.values())):
        raise _item_not_found(decoded_id)
    return (item or {"item_id": decoded_id}) | {"counts": counts, "in_catalog": item is not None}


@put("/v1/items/{item_id:str}", tags=["items"])
async def put_item(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> dict[str, Any]:
    """Put one item; `item_id` in the body may be left out."""
    decoded_id = parse_id("item_id", item_id)
    body = await read_body(request)
    raws = parse_elements(body)
    try:
        if is_list(body):
            raise ValueError("an item is an object, got a list")
        value = msgspec.json.encode({"item_id": decoded_id} | _field_decoder.decode(raws[0]))
        if _decode_item(value).item_id != decoded_id:
            raise ValueError(f"item_id in the body must be the one of the path, {decoded_id!r}")
    except (ValueError, msgspec.DecodeError) as error:
        raise validation_problem(ValueError(str(error))) from None
    await get_service(state).put_items([(decoded_id, value)])
    return {"accepted": 1}


@post("/v1/items", status_code=202, tags=["items"])
async def post_items(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Put one item or many; what is refused is named with its reason."""
    body = await read_body(request)
    records: list[tuple[str, bytes | None]] = []
    rejections = []
    for index, raw in enumerate(parse_elements(body)):
        value = bytes(raw)
        try:
            records.append((_decode_item(value).item_id, value))
        except ValueError as error:
            if not is_list(body):
                raise validation_problem(error) from None
            rejections.append({"index": index, "reason": str(error)})
    if records:
        await get_service(state).put_items(records)
    return {"accepted": len(records), "refused": rejections}


@delete("/v1/items/{item_id:str}", status_code=204, tags=["items"])
async def delete_item(state: State, item_id: FromPath[str]) -> None:
    """Take an item out of the catalogue; it is recommended no more."""
    service, decoded_id = get_service(state), parse_id("item_id", item_id)
    if service.replica.catalog.get(hash_id(decoded_id)) is None:
        raise _item_not_found(decoded_id)
    await service.put_items([(decoded_id, None)])


def _decode_item(value: bytes) -> Item:
    """The item in these bytes, if it can be read back whole; ValueError otherwise."""
    if len(value) > _MAX_ITEM_BYTES:
        raise ValueError(f"the item has {len(value)} bytes; at most {_MAX_ITEM_BYTES} are taken")
    item = parse_item(value)
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"item {item.item_id} cannot be read back: {error}") from None
    return item


def _item_not_found(item_id: str) -> Problem:
    return Problem(404, "No such item", f"item {item_id!r} is not in the catalogue", field="item_id")


ROUTES = (get_similar_items, get_item, put_item, post_items, delete_item)
