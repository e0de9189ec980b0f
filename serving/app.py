"""HTTP: the one module that knows the web framework."""

import hmac
from pathlib import Path
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, Response, delete, get, post, put
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.openapi.spec import RequestBody
from litestar.params import Parameter
from litestar.static_files import create_static_files_router
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from online_models import checkpoints
from online_models.control import RollbackOrder, encode_order
from serving.console import PAGE
from serving.inbox import Received
from serving.problems import Problem, answer_fault, answer_http_error, answer_problem, invalid
from serving.questions import Answer, Question
from serving.service import Service
from stream.catalogue import Item, parse_item
from stream.events import Refusal, parse
from stream.ids import key_of
from stream.profiles import decode_profile, describe
from stream.topics import ALARMS, CONTROL, USERS

_MAX_BODY = 16 << 20
_MAX_ALARMS = 100_000
_questions = msgspec.json.Decoder(Question)
_raws = msgspec.json.Decoder(list[msgspec.Raw])
_QUERY = {"user_id", "k", "surface", "ts", "exclude", "candidates", "repeats", "explain", "explore", "log"}


def service_of(state: State) -> Service:
    service: Service = state["service"]
    return service


async def _body(request: Request[Any, Any, Any]) -> bytes:
    """The body, if it says that it is JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, "Not JSON", f"content-type is {kind!r}; application/json is expected")
    return await request.body()


def _parsed(body: bytes) -> list[msgspec.Raw]:
    """The elements of a list, or the body itself as the only one."""
    try:
        return _raws.decode(body) if body.lstrip()[:1] == b"[" else [msgspec.json.decode(body, type=msgspec.Raw)]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None


@post("/v1/events", status_code=202, tags=["events"])
async def take_events(state: State, request: Request[Any, Any, Any]) -> Received:
    """Take one event or a list of them. What is accepted is durable; what is refused is named with its reason."""
    body = await _body(request)
    raws = _parsed(body)
    if body.lstrip()[:1] != b"[":
        parsed = parse(raws[0])
        if isinstance(parsed, Refusal):
            await service_of(state).inbox.take(raws)
            raise Problem(422, "Not an event", parsed.detail, **_refused_alone(parsed.detail, parsed.reason))
    received = await service_of(state).inbox.take(raws)
    if body.lstrip()[:1] != b"[" and received.refused:
        refusal = received.refused[0]
        raise Problem(422, "Not an event", refusal["reason"], **_refused_alone(refusal["reason"], refusal["code"]))
    return received


def _refused_alone(detail: str, reason: str) -> dict[str, Any]:
    return {
        "field": invalid(ValueError(detail)).more.get("field"),
        "accepted": 0,
        "repeated": 0,
        "refused": [{"index": 0, "reason": detail, "code": reason}],
    }


@post("/v1/recommendations", status_code=200, tags=["recommendations"])
async def recommend(state: State, request: Request[Any, Any, Any]) -> Answer:
    """A slate for a person: what to show, who found it, and with what probability it stands where it stands."""
    try:
        question = _questions.decode(await _body(request))
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    return await service_of(state).answer(question)


@get("/v1/recommendations", tags=["recommendations"])
async def recommend_by_query(state: State, request: Request[Any, Any, Any]) -> Answer:
    """The same by query: user_id, k, surface, ts, exclude and candidates (repeated), repeats, explain, explore, log."""
    given = request.query_params
    values: dict[str, Any] = {name: given[name] for name in given if name not in ("exclude", "candidates")}
    values |= {name: given.getall(name) for name in ("exclude", "candidates") if name in given}
    try:
        question = msgspec.convert(values, Question, strict=False)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    return await service_of(state).answer(question)


@get("/v1/items/{item_id:str}/similar", tags=["items"])
async def similar(state: State, item_id: str, k: Annotated[int, Parameter(ge=1, le=1000)] = 10) -> dict[str, Any]:
    """Neighbours of an item, best first."""
    service = service_of(state)
    if service.replica.catalogue.get(key_of(item_id)) is None:
        raise Problem(404, "No such item", f"item {item_id!r} is not in the catalogue", field="item_id")
    found = service.recommender.similar(key_of(item_id), k)
    return {"item_id": item_id, "items": [{"item_id": name, "score": score} for name, score in found]}


@get("/v1/items/{item_id:str}", tags=["items"])
async def get_item(state: State, item_id: str) -> dict[str, Any]:
    """An item as it was put, with `counts` of events by type as the learner knows them."""
    service = service_of(state)
    item = service.replica.catalogue.json(key_of(item_id))
    counts = service.replica.counts(key_of(item_id))
    if item is None and not any(counts.values()):
        raise Problem(404, "No such item", f"item {item_id!r} is not in the catalogue", field="item_id")
    return (item or {"item_id": item_id}) | {"counts": counts, "in_catalogue": item is not None}


@put("/v1/items/{item_id:str}", tags=["items"])
async def put_item(state: State, request: Request[Any, Any, Any], item_id: str) -> dict[str, Any]:
    """Put one item; `item_id` in the body may be left out."""
    body = await _body(request)
    try:
        values = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    if not isinstance(values, dict) or values.get("item_id", item_id) != item_id:
        raise Problem(422, "Not this item", f"the body must be an object whose item_id is {item_id!r}", field="item_id")
    try:
        value = msgspec.json.encode({"item_id": item_id} | values)
        parse_item(value)
    except ValueError as error:
        raise invalid(error) from None
    await service_of(state).put_items([(item_id, value)])
    return {"accepted": 1}


@post("/v1/items", status_code=202, tags=["items"])
async def post_items(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Put many items; what is refused is named with its reason."""
    records: list[tuple[str, bytes | None]] = []
    refused = []
    for index, raw in enumerate(_parsed(await _body(request))):
        try:
            records.append((parse_item(raw).item_id, bytes(raw)))
        except ValueError as error:
            refused.append({"index": index, "reason": str(error)})
    if records:
        await service_of(state).put_items(records)
    return {"accepted": len(records), "refused": refused}


@delete("/v1/items/{item_id:str}", status_code=204, tags=["items"])
async def delete_item(state: State, item_id: str) -> None:
    """Take an item out of the catalogue; it is recommended no more."""
    service = service_of(state)
    if service.replica.catalogue.get(key_of(item_id)) is None:
        raise Problem(404, "No such item", f"item {item_id!r} is not in the catalogue", field="item_id")
    await service.put_items([(item_id, None)])


@get("/v1/users/{user_id:str}", tags=["users"])
async def get_user(state: State, user_id: str) -> dict[str, Any]:
    """What is known of a person: history oldest first, counts of events by type, session, attributes."""
    value = service_of(state).store.get(key_of(user_id))
    profile = None if value is None else decode_profile(value)
    if profile is None or profile.is_empty:
        raise Problem(404, "No such person", f"nothing is known of user {user_id!r}", field="user_id")
    return describe(profile)


@delete("/v1/users/{user_id:str}", status_code=204, tags=["users"])
async def forget_user(state: State, user_id: str) -> None:
    """Forget a person: their history, counts and attributes. What was learnt of items stays."""
    await service_of(state).forget(user_id)


@get("/v1/lag", tags=["operations"])
async def lag(state: State) -> dict[str, Any]:
    """Acknowledged events that are not yet in the answers."""
    by_partition = service_of(state).lag()
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
        checkpoints.check(service.settings.checkpoints, order.version)
    except FileNotFoundError as error:
        raise Problem(404, "No such version", str(error), field="version") from None
    except checkpoints.DamagedCheckpoint as error:
        raise Problem(409, "Damaged version", str(error), field="version") from None
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except msgspec.DecodeError as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    await service.appender.append(CONTROL, [("", encode_order(order))])
    return {"version": order.version, "epoch": service.replica.epoch + 1}


@get("/v1/alarms", tags=["operations"])
async def alarms(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """Alarms raised so far; the list only grows."""
    log = _admin(state, request).log
    records = log.read(ALARMS, 0, log.start(ALARMS, 0), _MAX_ALARMS)
    return [msgspec.json.decode(value) for value in records.values if value]


@get("/v1/lineage/{version:str}", tags=["operations"])
async def lineage(state: State, request: Request[Any, Any, Any], version: str) -> list[dict[str, Any]]:
    """From a version back to the first: which offsets taught each, and which were left out."""
    service = _admin(state, request)
    try:
        return checkpoints.lineage(service.settings.checkpoints, version)
    except FileNotFoundError as error:
        raise Problem(404, "No such version", str(error), field="version") from None


@get("/healthz", tags=["health"])
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", tags=["health"])
async def readyz(state: State) -> dict[str, Any]:
    """Ready once the replica is loaded and an answer has been tried."""
    service = service_of(state)
    return {"status": "ready", "model_version": service.replica.version, "items": len(service.replica.catalogue)}


@get("/metrics", tags=["health"])
async def metrics_page() -> Response[bytes]:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@get("/", include_in_schema=False, media_type="text/html")
async def console() -> str:
    return PAGE


def create_app(service: Service) -> Litestar:
    """The routes over a service that has been built; it starts and stops with them."""
    return Litestar(
        [
            take_events, recommend, recommend_by_query, similar, get_item, put_item, post_items, delete_item,
            get_user, forget_user, lag, models, rollback, alarms, lineage, healthz, readyz, metrics_page, console,
        ],
        state=State({"service": service}),
        on_startup=[service.start],
        on_shutdown=[service.stop],
        request_max_body_size=_MAX_BODY,
        openapi_config=OpenAPIConfig(
            title="Headrace", version="1", path="/docs", render_plugins=[SwaggerRenderPlugin(path="/")]
        ),
        exception_handlers={Problem: answer_problem, HTTPException: answer_http_error, OSError: answer_fault},
    )  # fmt: skip
