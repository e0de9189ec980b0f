"""HTTP: the one module that knows the web framework."""

import hmac
from typing import Annotated, Any
from urllib.parse import unquote

import msgspec
from litestar import Litestar, Request, Response, delete, get, post, put
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.params import FromPath, QueryParameter
from litestar.static_files import create_static_files_router
from litestar.types import LifeSpanReceive, LifeSpanScope, LifeSpanSend, Receive, Scope, Send
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from swagger_ui_bundle import swagger_ui_path

from online_models import checkpoints, gate
from online_models.control import RollbackOrder, encode_order
from serving.bodies import elements, fault_of, is_list
from serving.console import PAGE
from serving.inbox import Received
from serving.problems import Problem, answer_away, answer_fault, answer_http_error, answer_problem, field_of, invalid
from serving.questions import MAX_K, Answer, Question
from serving.service import Service
from stream.catalogue import Item, parse_item
from stream.events import id_fault
from stream.ids import key_of
from stream.profiles import decode_profile, describe
from stream.topics import ALARMS, CONTROL

_MAX_BODY = 16 << 20
_MAX_ITEM = 1 << 20
_DOCS_PARTS = "/docs/parts"
_MAX_ALARMS = 100_000
_LISTS, _OBJECTS = ("exclude", "candidates"), ("context", "filters")  # fields of a question, as a query writes them
_questions = msgspec.json.Decoder(Question)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])


def service_of(state: State) -> Service:
    service: Service = state["service"]
    return service


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """The body, if it says that it is JSON."""
    chunks, size = [], 0
    # Read to the end whatever comes: a server that answers into a body still being sent resets the connection.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= _MAX_BODY:
            chunks.append(chunk)
    if size > _MAX_BODY:
        raise Problem(413, "Too large", f"the body has {size} bytes; at most {_MAX_BODY} are taken")
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "Not JSON", f"content-type is {kind!r}; application/json is expected")
    return b"".join(chunks)


def _elements(body: bytes) -> list[msgspec.Raw]:
    try:
        return elements(body)
    except ValueError as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None


def _id(field: str, text: str) -> str:
    """An id out of the path, where it stands percent-encoded."""
    try:
        name = unquote(text, errors="strict")
    except UnicodeDecodeError:
        raise Problem(422, "Not an id", f"{field} {text} is not percent-encoded UTF-8", field=field) from None
    if fault := id_fault(field, name):
        raise Problem(422, "Not an id", fault[1], field=field)
    return name


@post("/v1/events", status_code=202, tags=["events"])
async def take_events(state: State, request: Request[Any, Any, Any]) -> Received:
    """Take one event or a list of them. What is accepted is durable; what is refused is named with its reason."""
    body = await _body(request)
    inbox = service_of(state).inbox
    try:
        raws = _elements(body)
    except Problem as problem:
        inbox.refuse(body, problem.detail)
        raise
    received = await inbox.take(raws)
    if received.refused and not is_list(body):
        detail = received.refused[0]["reason"]
        raise Problem(422, "Not an event", detail, field=field_of(detail), **msgspec.structs.asdict(received))
    return received


@post("/v1/recommendations", status_code=200, tags=["recommendations"])
async def recommend(state: State, request: Request[Any, Any, Any]) -> Answer:
    """A slate for a person: what to show, who found it, and with what probability it stands where it stands."""
    body = await _body(request)
    try:
        question = _questions.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if fault := fault_of(body):
            raise invalid(ValueError(fault[1])) from None
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    return await service_of(state).answer(question)


@get("/v1/recommendations", tags=["recommendations"])
async def recommend_by_query(state: State, request: Request[Any, Any, Any]) -> Answer:
    """The same by query: `exclude` and `candidates` are repeated, `context` and `filters` are written as JSON."""
    given = request.query_params
    values: dict[str, Any] = {name: given.getall(name) if name in _LISTS else given[name] for name in given}
    try:
        values |= {name: msgspec.json.decode(given[name]) for name in _OBJECTS if name in given}
        question = msgspec.convert(values, Question, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(422, "Not what is expected here", f"context and filters must be JSON: {error}") from None
    return await service_of(state).answer(question)


@get("/v1/items/{item_id:str}/similar", tags=["items"])
async def similar(
    state: State, item_id: FromPath[str], k: Annotated[int, QueryParameter(ge=1, le=MAX_K)] = 10
) -> dict[str, Any]:
    """Neighbours of an item, best first."""
    service, name = service_of(state), _id("item_id", item_id)
    if service.replica.catalogue.get(key_of(name)) is None:
        raise _no_such_item(name)
    found = service.recommender.similar(key_of(name), k)
    return {"item_id": name, "items": [{"item_id": near, "score": score} for near, score in found]}


@get("/v1/items/{item_id:str}", tags=["items"])
async def get_item(state: State, item_id: FromPath[str]) -> dict[str, Any]:
    """An item as it was put, with `counts` of events by type as the learner knows them.

    An item that people met, but that never was in the catalogue, has counts alone.
    """
    replica, name = service_of(state).replica, _id("item_id", item_id)
    key = key_of(name)
    item, counts = replica.catalogue.json(key), replica.counts(key)
    if item is None and (replica.catalogue.is_gone(key) or not any(counts.values())):
        raise _no_such_item(name)
    return (item or {"item_id": name}) | {"counts": counts, "in_catalogue": item is not None}


@put("/v1/items/{item_id:str}", tags=["items"])
async def put_item(state: State, request: Request[Any, Any, Any], item_id: FromPath[str]) -> dict[str, Any]:
    """Put one item; `item_id` in the body may be left out."""
    name = _id("item_id", item_id)
    body = await _body(request)
    raws = _elements(body)
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
    body = await _body(request)
    records: list[tuple[str, bytes | None]] = []
    refused = []
    for index, raw in enumerate(_elements(body)):
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
    service, name = service_of(state), _id("item_id", item_id)
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


@get("/v1/users/{user_id:str}", tags=["users"])
async def get_user(state: State, user_id: FromPath[str]) -> dict[str, Any]:
    """What is known of a person: history oldest first, counts of events by type, session, attributes."""
    name = _id("user_id", user_id)
    value = service_of(state).store.get(key_of(name))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "No such person", f"nothing is known of user {name!r}", field="user_id")
    return describe(profile)


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"])
async def forget_user(state: State, user_id: FromPath[str]) -> None:
    """Forget a person: their history, counts and attributes. What was learnt of items stays."""
    await service_of(state).forget(_id("user_id", user_id))


@get("/v1/lag", tags=["operations"])
async def lag(state: State) -> dict[str, Any]:
    """Acknowledged events that are not yet in the answers."""
    by_partition = await service_of(state).lag()
    return {
        "events": sum(by_partition.values()),
        "partitions": by_partition,
        "model_version": service_of(state).replica.version,
    }


def _admin(state: State, request: Request[Any, Any, Any]) -> Service:
    service = service_of(state)
    key = service.settings.serve.admin_key
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if not given or scheme.lower() != "bearer":
        raise Problem(401, "Admin key needed", "send Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    if not key:
        raise Problem(403, "No admin key is set", "set HEADRACE_SERVE__ADMIN_KEY and start serve again")
    if not hmac.compare_digest(given.encode(), key.encode()):
        raise Problem(403, "Wrong admin key", "the key is not the one in HEADRACE_SERVE__ADMIN_KEY")
    return service


@get("/v1/models", tags=["operations"])
async def models(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """Versions on disk, oldest first, damaged ones too."""
    service = _admin(state, request)
    return checkpoints.told(service.settings.checkpoints, service.replica.base)


@post("/v1/models/rollback", status_code=202, tags=["operations"])
async def rollback(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Go back to a version: {"version": "…", "skip": {"0": [[from, to]]}}."""
    service = _admin(state, request)
    try:
        order = msgspec.json.decode(await _body(request), type=RollbackOrder)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    _known_version(service, order.version)
    _check_skip(service, order)
    try:
        checkpoints.check(service.settings.checkpoints, order.version)
        gate.demand_served(service.settings.checkpoints, order.version)
    except checkpoints.DamagedCheckpoint as error:
        raise Problem(409, "Damaged version", str(error), field="version") from None
    except gate.Refused as error:
        raise Problem(409, "Refused version", str(error), field="version") from None
    await service.appender.append(CONTROL, [("", encode_order(order))])
    return {"version": order.version, "epoch": service.replica.epoch + 1}


def _known_version(service: Service, version: str) -> None:
    if version not in checkpoints.versions_in(service.settings.checkpoints):
        raise Problem(404, "No such version", f"there is no version {version!r}; see /v1/models", field="version")


def _check_skip(service: Service, order: RollbackOrder) -> None:
    for partition, ranges in (order.skip or {}).items():
        if partition not in service.replica.covered or not all(0 <= first < next_ for first, next_ in ranges):
            known = sorted(service.replica.covered)
            detail = f"skip must map partitions, of {known}, to [[first, next], …], got {partition!r}: {ranges}"
            raise Problem(422, "Not a range", detail, field="skip")


@get("/v1/alarms", tags=["operations"])
async def alarms(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """Alarms raised so far; the list only grows."""
    log = _admin(state, request).log
    records = log.read(ALARMS, 0, log.start(ALARMS, 0), _MAX_ALARMS)
    return [msgspec.json.decode(value) for value in records.values if value]


@get("/v1/lineage/{version:str}", tags=["operations"])
async def lineage(state: State, request: Request[Any, Any, Any], version: FromPath[str]) -> list[dict[str, Any]]:
    """From a version back to the first: which offsets taught each, and which were left out."""
    service = _admin(state, request)
    _known_version(service, version)
    return checkpoints.lineage(service.settings.checkpoints, version)


@get("/healthz", tags=["health"])
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", tags=["health"])
async def readyz(state: State) -> dict[str, Any]:
    """Ready once the replica is loaded and an answer has been tried; `refused`: why no newer version answers."""
    replica = service_of(state).replica
    told = {"status": "ready", "model_version": replica.version, "items": len(replica.catalogue)}
    return told | ({"refused": replica.refused} if replica.refused else {})


@get("/metrics", tags=["health"])
async def metrics_page() -> Response[bytes]:
    # The framework adds the charset; named twice, Prometheus would not know the type.
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST.partition("; charset")[0])


@get("/", include_in_schema=False, media_type="text/html")
async def console() -> str:
    return PAGE


class _App(Litestar):
    """Routes by the path as it was sent: decoded, an id that holds a slash would fall apart."""

    async def __call__(
        self, scope: Scope | LifeSpanScope, receive: Receive | LifeSpanReceive, send: Send | LifeSpanSend
    ) -> None:
        if scope["type"] != "lifespan":
            scope["path"] = scope["raw_path"].partition(b"?")[0].decode(errors="replace")
        await super().__call__(scope, receive, send)


class _DocsPage(SwaggerRenderPlugin):
    """The page at /docs, with its parts from the package that ships them: it works without the outside world."""

    def __init__(self) -> None:
        super().__init__(
            path="/",
            js_url=f"{_DOCS_PARTS}/swagger-ui-bundle.js",
            css_url=f"{_DOCS_PARTS}/swagger-ui.css",
            standalone_preset_js_url=f"{_DOCS_PARTS}/swagger-ui-standalone-preset.js",
            favicon=f"<link rel='icon' href='{_DOCS_PARTS}/favicon-32x32.png'>",
        )

    def render(self, request: Request[Any, Any, Any], openapi_schema: dict[str, Any]) -> bytes:
        # The page knows OpenAPI up to 3.0 and refuses a higher number, though what is new in 3.1 is not used here.
        return super().render(request, openapi_schema | {"openapi": "3.0.3"})


def create_app(service: Service) -> Litestar:
    """The routes over a service that has been built; it starts and stops with them."""
    return _App(
        [
            take_events, recommend, recommend_by_query, similar, get_item, put_item, post_items, delete_item,
            get_user, forget_user, lag, models, rollback, alarms, lineage, healthz, readyz, metrics_page, console,
            create_static_files_router(_DOCS_PARTS, [swagger_ui_path], include_in_schema=False),
        ],
        state=State({"service": service}),
        on_startup=[service.start],
        on_shutdown=[service.stop],
        request_max_body_size=None,
        logging_config=None,
        openapi_config=OpenAPIConfig(title="Headrace", version="1", path="/docs", render_plugins=[_DocsPage()]),
        exception_handlers={
            Problem: answer_problem, HTTPException: answer_http_error, OSError: answer_away, Exception: answer_fault,
        },
    )  # fmt: skip
