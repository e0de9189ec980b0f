"""The catalogue over HTTP: items in, out and beside one another."""

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post, put
from litestar.datastructures import State
from litestar.params import FromPath, QueryParameter

from serving.http.errors import Problem, invalid
from serving.http.requests import body_of, elements_of, id_of, service_of
from serving.ingest.json_bodies import is_list
from serving.pipeline.schemas import MAX_K
from stream.ids import key_of
from stream.records.catalog import Item, parse_item

_MAX_ITEM = 1 << 20
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


@get("/v1/items/{item_id:str}/similar", tags=["items"])
async def similar(
    state: State, item_id: FromPath[str], k: Annotated[int, QueryParameter(ge=1, le=MAX_K)] = 10
) -> dict[str, Any]:
    """Neighbours of an item, best first."""
    service, name = service_of(state), id_of("item_id", item_id)
    if service.replica.catalogue.get(key_of(name)) is None:
        raise _no_such_item(name)
    found = service.recommender.similar(key_of(name), k)
    return {"item_id": name, "items": [{"item_id": near, "score": score} for near, score in found]}


@get("/v1/items/{item_id:str}", tags=["items"])
async def get_item(state: State, item_id: FromPath[str]) -> dict[str, Any]:
    """An item as it was put, with `counts` of events by type as the learner knows them.

    An item that people met, but that never was in the catalogue, has counts alone.
    """
    replica, name = service_of(state).replica, id_of("item_id", item_id)
    key = key_of(name)
    item, counts = replica.catalogue.json(key), replica.counts(key)
    if item is None and (replica.catalogue.is_gone(key) or not any(counts.values())):
        raise _no_such_item(name)
    return (item or {"item_id": name}) | {"counts": counts, "in_catalogue": item is not None}


@put("/v1/items/{item_id:str}", tags=["items"])
async def put_item(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> dict[str, Any]:
    """Put one item; `item_id` in the body may be left out."""
    name = id_of("item_id", item_id)
    body = await body_of(request)
    raws = elements_of(body)
    try:
        if is_list(body):
            raise ValueError("an item is an object, got a list")
        value = msgspec.json.encode({"item_id": name} | _fields.decode(raws[0]))
        if _item(value).item_id != name:
            raise ValueError(f"item_id in the body must be the one of the path, {name!r}")
    except (ValueError, msgspec.DecodeError) as error:
        raise invalid(ValueError(str(error))) from None
    await service_of(state).put_items([(name, value)])
    return {"accepted": 1}


@post("/v1/items", status_code=202, tags=["items"])
async def post_items(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Put one item or many; what is refused is named with its reason."""
    body = await body_of(request)
    records: list[tuple[str, bytes | None]] = []
    refused = []
    for index, raw in enumerate(elements_of(body)):
        value = bytes(raw)
        try:
            records.append((_item(value).item_id, value))
        except ValueError as error:
            if not is_list(body):
                raise invalid(error) from None
            refused.append({"index": index, "reason": str(error)})
    if records:
        await service_of(state).put_items(records)
    return {"accepted": len(records), "refused": refused}


@delete("/v1/items/{item_id:str}", status_code=204, tags=["items"])
async def delete_item(state: State, item_id: FromPath[str]) -> None:
    """Take an item out of the catalogue; it is recommended no more."""
    service, name = service_of(state), id_of("item_id", item_id)
    if service.replica.catalogue.get(key_of(name)) is None:
        raise _no_such_item(name)
    await service.put_items([(name, None)])


def _item(value: bytes) -> Item:
    """The item in these bytes, if it can be read back whole; ValueError otherwise."""
    if len(value) > _MAX_ITEM:
        raise ValueError(f"the item has {len(value)} bytes; at most {_MAX_ITEM} are taken")
    item = parse_item(value)
    try:
        msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"item {item.item_id} cannot be read back: {error}") from None
    return item


def _no_such_item(name: str) -> Problem:
    return Problem(404, "No such item", f"item {name!r} is not in the catalogue", field="item_id")


ROUTES = (similar, get_item, put_item, post_items, delete_item)
