"""Routes for the catalog and for similar items."""

from typing import Annotated, Any

import msgspec
from litestar import Request, delete, get, post, put
from litestar.datastructures import State
from litestar.params import FromPath

from serving.filters.language import Filters
from serving.http.errors import Problem, validation_problem
from serving.http.operations import Operation, contract
from serving.http.parameters import decode_query
from serving.http.requests import get_service, parse_elements, parse_id, read_body
from serving.ingest.json_bodies import find_invalid_field, is_list
from serving.pipeline.schemas import MAX_K
from serving.records import (
    ItemFields,
    ItemRecord,
    PutResult,
    RefusedRecord,
    SimilarItem,
    SimilarItems,
    find_status,
)
from stream.ids import hash_id
from stream.records.catalog import Item, is_deletion, parse_item
from stream.records.events import name_user, validate_id

_MAX_ITEM_BYTES = 1 << 20
_NO_NEIGHBORS = "no available item has users or categories in common with this item"
_field_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


_ITEM = {"item_id": "kettle", "title": "Kettle", "categories": ["kitchen"], "price": 29.0}
_ITEM_ID = {"item_id": "kettle"}
_PUT_RESULT = {"accepted": 1, "refused": [], "status": "accepted"}


class SimilarQuery(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Query of similar items."""

    k: Annotated[int, msgspec.Meta(ge=1, le=MAX_K, description="Maximum number of neighbors.")] = 10
    filters: Annotated[Filters | None, msgspec.Meta(description="Conditions that every neighbor meets, as JSON.")] = (
        None
    )
    exclude: Annotated[list[str], msgspec.Meta(description="Items that must not be among them.")] = []
    user_id: Annotated[str | None, msgspec.Meta(description="A user, whose own items are left out.")] = None
    session_id: Annotated[str | None, msgspec.Meta(description="The same for the anonymous user of a session.")] = None

    def __post_init__(self) -> None:
        for field in ("user_id", "session_id"):
            name = getattr(self, field)
            if name is not None and (error := validate_id(field, name)):
                raise ValueError(error[1])


_GET_SIMILAR = Operation(
    access="recommend", path_example=_ITEM_ID, query=SimilarQuery, query_example={"k": "5"}, response=SimilarItems,
    response_example={"item_id": "kettle", "items": [{"item_id": "teapot", "score": 0.25}]}, errors=(404,),
)  # fmt: skip
_GET_ITEM = Operation(
    access="recommend", path_example=_ITEM_ID, response=ItemRecord, errors=(404,),
    response_example=_ITEM | {"counts": {"click": 2, "purchase": 1}, "in_catalog": True},
)  # fmt: skip
_PUT_ITEM = Operation(
    access="ingest", path_example=_ITEM_ID, request=ItemFields, response=PutResult, response_example=_PUT_RESULT,
    request_example={name: value for name, value in _ITEM.items() if name != "item_id"},
)  # fmt: skip
_POST_ITEMS = Operation(
    access="ingest", request=Item | list[Item], request_example=[_ITEM], response=PutResult,
    response_example=_PUT_RESULT,
)  # fmt: skip
_DELETE_ITEM = Operation(access="ingest", path_example=_ITEM_ID, errors=(404,))


@get("/v1/items/{item_id:str}/similar", tags=["items"], opt=contract(_GET_SIMILAR))
async def get_similar_items(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> SimilarItems:
    """Return the neighbors of an item, best first."""
    service, decoded_id = get_service(state), parse_id("item_id", item_id)
    query = decode_query(request.query_params, SimilarQuery)
    if not service.replica.is_known(hash_id(decoded_id)):
        raise _unknown_item(decoded_id)
    neighbors = service.recommender.find_similar(
        hash_id(decoded_id), query.k, query.filters, query.exclude,
        service.pseudonyms.replace(name_user(query.user_id, query.session_id)),
        service.clock.now_ms(),
    )  # fmt: skip
    items = [SimilarItem(neighbor_id, score) for neighbor_id, score in neighbors]
    reason = _NO_NEIGHBORS + (" and passes filters" if query.filters else "")
    return SimilarItems(decoded_id, items, None if items else reason)


@get("/v1/items/{item_id:str}", tags=["items"], opt=contract(_GET_ITEM))
async def get_item(state: State, item_id: FromPath[str]) -> dict[str, Any]:
    """Return an item of the catalog, with `counts` of its events by type.

    The counts are those that the model has learned. An item outside the catalog that events name has counts only.
    """
    replica, decoded_id = get_service(state).replica, parse_id("item_id", item_id)
    key = hash_id(decoded_id)
    item, counts = replica.catalog.json(key), replica.count_events(key)
    if item is None and not replica.is_known(key):
        raise _unknown_item(decoded_id)
    return (item or {"item_id": decoded_id}) | {"counts": counts, "in_catalog": item is not None}


@put("/v1/items/{item_id:str}", tags=["items"], opt=contract(_PUT_ITEM))
async def put_item(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> PutResult:
    """Create or replace one item; the body may omit `item_id`."""
    decoded_id = parse_id("item_id", item_id)
    body = await read_body(request)
    raws = parse_elements(body)
    try:
        if is_list(body):
            raise ValueError("the body is a list; expected an item as an object")
        fields = _field_decoder.decode(raws[0])
        if is_deletion(fields):
            raise ValueError("deleted is true; expected the fields of the item: DELETE deletes it")
        value = msgspec.json.encode({"item_id": decoded_id} | fields)
        if (body_id := _decode_item(value).item_id) != decoded_id:
            raise ValueError(f"item_id in the body is {body_id!r}; expected {decoded_id!r} as in the path")
    except (ValueError, msgspec.DecodeError) as error:
        raise validation_problem(_explain(error, body)) from None
    await get_service(state).put_items([(decoded_id, value)])
    return PutResult(1, [], "accepted")


@post("/v1/items", status_code=202, tags=["items"], opt=contract(_POST_ITEMS))
async def post_items(state: State, request: Request[Any, Any, Any]) -> PutResult:
    """Create or replace one item or a list of items.

    `{"item_id": …, "deleted": true}` deletes an item. A list is always answered with 202: each rejected item is listed
    under `refused` with its index and reason, and `status` says if nothing was accepted. A single item that is rejected
    gets 422.
    """
    body = await read_body(request)
    records: list[tuple[str, bytes | None]] = []
    refused: list[RefusedRecord] = []
    for index, raw in enumerate(parse_elements(body)):
        value = bytes(raw)
        try:
            item_id = _decode_item(value).item_id
            records.append((item_id, None if is_deletion(_field_decoder.decode(value)) else value))
        except ValueError as error:
            if not is_list(body):
                raise validation_problem(error) from None
            refused.append(RefusedRecord(index, str(error)))
    if records:
        await get_service(state).put_items(records)
    return PutResult(len(records), refused, find_status(len(records), len(refused)))


@delete("/v1/items/{item_id:str}", status_code=204, tags=["items"], opt=contract(_DELETE_ITEM))
async def delete_item(state: State, item_id: FromPath[str]) -> None:
    """Delete an item from the catalog; it is no longer recommended.

    An item that only events name is hidden.
    """
    service, decoded_id = get_service(state), parse_id("item_id", item_id)

    def check() -> None:
        if not service.replica.is_known(hash_id(decoded_id)):
            raise _unknown_item(decoded_id)

    await service.change_item(decoded_id, check)


def _decode_item(value: bytes) -> Item:
    """Decode an item; ValueError if it is invalid or could not be read back from the log."""
    if len(value) > _MAX_ITEM_BYTES:
        raise ValueError(f"the item has {len(value)} bytes; expected at most {_MAX_ITEM_BYTES}")
    try:
        item = parse_item(value)
        msgspec.json.decode(value)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise _explain(error, value) from None
    return item


def _explain(error: Exception, value: bytes) -> ValueError:
    """Error of an item; it names a field that holds NaN, infinity or a lone surrogate."""
    invalid_field = find_invalid_field(value)
    return ValueError(f"not a valid item: {invalid_field[1]}" if invalid_field else str(error))


def _unknown_item(item_id: str) -> Problem:
    detail = f"item {item_id!r} is deleted, or neither catalog nor events have it"
    return Problem(404, "Unknown item", detail, field="item_id")


ROUTES = (get_similar_items, get_item, put_item, post_items, delete_item)
