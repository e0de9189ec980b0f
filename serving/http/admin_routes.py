"""What people on call ask over HTTP: health, lag, versions and alarms."""

import hmac
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from online_models.control import Order, RollbackOrder, StrikeOrder, encode_order
from online_models.training.rollback import Outlived, demand_kept
from online_models.versions import checkpoints, gate, listing
from serving.http.console import PAGE
from serving.http.errors import Problem, invalid
from serving.http.requests import body_of, service_of
from serving.service import Service
from stream.topics import ALARMS, CONTROL

_MAX_ALARMS = 100_000


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
    return listing.told(service.settings.checkpoints, service.replica.base)


@post("/v1/models/rollback", status_code=202, tags=["operations"])
async def rollback(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Go back to a version: {"version": "…", "skip": {"0": [[from, to]]}, "slates": {"0": [[from, to]]}}."""
    service = _admin(state, request)
    try:
        order = msgspec.json.decode(await body_of(request), type=RollbackOrder)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    _known_version(service, order.version)
    _check_ranges(service, "skip", order.skip or {})
    _check_ranges(service, "slates", order.slates)
    try:
        manifest = checkpoints.check(service.settings.checkpoints, order.version)
        gate.demand_served(service.settings.checkpoints, order.version)
        demand_kept(service.log, manifest)
    except checkpoints.DamagedCheckpoint as error:
        raise Problem(409, "Damaged version", str(error), field="version") from None
    except gate.Refused as error:
        raise Problem(409, "Refused version", str(error), field="version") from None
    except Outlived as error:
        raise Problem(409, "Version older than the log", str(error), field="version") from None
    orders: list[Order] = [StrikeOrder(order.slates, order.reason)] if order.slates else []
    await service.appender.append(CONTROL, [("", encode_order(one)) for one in (*orders, order)])
    return {"version": order.version, "epoch": service.replica.epoch + 1}


def _known_version(service: Service, version: str) -> None:
    if version not in checkpoints.versions_in(service.settings.checkpoints):
        raise Problem(404, "No such version", f"there is no version {version!r}; see /v1/models", field="version")


def _check_ranges(service: Service, name: str, told: dict[str, list[tuple[int, int]]]) -> None:
    for partition, ranges in told.items():
        if partition not in service.replica.covered or not all(0 <= first < next_ for first, next_ in ranges):
            known = sorted(service.replica.covered)
            detail = f"{name} must map partitions, of {known}, to [[first, next], …], got {partition!r}: {ranges}"
            raise Problem(422, "Not a range", detail, field=name)


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
    return listing.lineage(service.settings.checkpoints, version)


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


ROUTES = (lag, models, rollback, alarms, lineage, healthz, readyz, metrics_page, console)
