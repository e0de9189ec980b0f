"""What people on call ask over HTTP: health, lag, versions and alarms."""

import hmac
from typing import Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import FromPath
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from online_models.control import Command, ExcludeActionsCommand, RollbackCommand, encode_command
from online_models.training.rollback import RetentionExceeded, check_retained
from online_models.versions import checkpoints, gate, listing
from serving.http.console import PAGE
from serving.http.errors import Problem, validation_problem
from serving.http.requests import get_service, read_body
from serving.service import Service
from stream.topics import ALARMS, CONTROL

_MAX_ALARMS = 100_000


@get("/v1/lag", tags=["operations"])
async def get_lag(state: State) -> dict[str, Any]:
    """Acknowledged events that are not yet in the answers."""
    by_partition = await get_service(state).measure_lag()
    return {
        "events": sum(by_partition.values()),
        "partitions": by_partition,
        "model_version": get_service(state).replica.version,
    }


def _require_admin(state: State, request: Request[Any, Any, Any]) -> Service:
    service = get_service(state)
    key = service.settings.serve.admin_key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not token or scheme.lower() != "bearer":
        raise Problem(401, "Admin key needed", "send Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    if not key:
        raise Problem(403, "No admin key is set", "set HEADRACE_SERVE__ADMIN_KEY and start serve again")
    if not hmac.compare_digest(token.encode(), key.encode()):
        raise Problem(403, "Wrong admin key", "the key is not the one in HEADRACE_SERVE__ADMIN_KEY")
    return service


@get("/v1/models", tags=["operations"])
async def list_models(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """Versions on disk, oldest first, damaged ones too."""
    service = _require_admin(state, request)
    return listing.describe_versions(service.settings.checkpoints, service.replica.base_version)


@post("/v1/models/rollback", status_code=202, tags=["operations"])
async def rollback(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Go back to a version: {"version": "…", "skip": {"0": [[from, to]]}, "skip_impressions": {"0": [[from, to]]}}."""
    service = _require_admin(state, request)
    try:
        rollback_command = msgspec.json.decode(await read_body(request), type=RollbackCommand)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, "Not JSON", f"the body is not JSON in UTF-8: {error}") from None
    _check_version_exists(service, rollback_command.version)
    _check_ranges(service, "skip", rollback_command.skip or {})
    _check_ranges(service, "skip_impressions", rollback_command.skip_impressions)
    try:
        manifest = checkpoints.check(service.settings.checkpoints, rollback_command.version)
        gate.check_servable(service.settings.checkpoints, rollback_command.version)
        check_retained(service.log, manifest)
    except checkpoints.DamagedCheckpoint as error:
        raise Problem(409, "Damaged version", str(error), field="version") from None
    except gate.VersionBlocked as error:
        raise Problem(409, "Refused version", str(error), field="version") from None
    except RetentionExceeded as error:
        raise Problem(409, "Version older than the log", str(error), field="version") from None
    commands: list[Command] = (
        [ExcludeActionsCommand(rollback_command.skip_impressions, rollback_command.reason)]
        if rollback_command.skip_impressions
        else []
    )
    await service.writer.append(CONTROL, [("", encode_command(command)) for command in (*commands, rollback_command)])
    return {"version": rollback_command.version, "epoch": service.replica.epoch + 1}


def _check_version_exists(service: Service, version: str) -> None:
    if version not in checkpoints.list_version_names(service.settings.checkpoints):
        raise Problem(404, "No such version", f"there is no version {version!r}; see /v1/models", field="version")


def _check_ranges(service: Service, name: str, ranges_by_partition: dict[str, list[tuple[int, int]]]) -> None:
    for partition, ranges in ranges_by_partition.items():
        if partition not in service.replica.covered_offsets or not all(0 <= first < next_ for first, next_ in ranges):
            known_partitions = sorted(service.replica.covered_offsets)
            detail = (
                f"{name} must map partitions, of {known_partitions}, to [[first, next], …], got {partition!r}: {ranges}"
            )
            raise Problem(422, "Not a range", detail, field=name)


@get("/v1/alarms", tags=["operations"])
async def list_alarms(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """Alarms raised so far; the list only grows."""
    log = _require_admin(state, request).log
    records = log.read(ALARMS, 0, log.start_offset(ALARMS, 0), _MAX_ALARMS)
    return [msgspec.json.decode(value) for value in records.values if value]


@get("/v1/lineage/{version:str}", tags=["operations"])
async def get_lineage(state: State, request: Request[Any, Any, Any], version: FromPath[str]) -> list[dict[str, Any]]:
    """From a version back to the first: which offsets taught each, and which were left out."""
    service = _require_admin(state, request)
    _check_version_exists(service, version)
    return listing.lineage(service.settings.checkpoints, version)


@get("/healthz", tags=["health"])
async def healthz() -> dict[str, str]:
    return {"status": "alive"}


@get("/readyz", tags=["health"])
async def readyz(state: State) -> dict[str, Any]:
    """Ready once the replica is loaded and an answer has been tried; `refused`: why no newer version answers."""
    replica = get_service(state).replica
    status = {"status": "ready", "model_version": replica.version, "items": len(replica.catalog)}
    return status | ({"blocked_reason": replica.blocked_reason} if replica.blocked_reason else {})


@get("/metrics", tags=["health"])
async def get_metrics() -> Response[bytes]:
    # The framework adds the charset; named twice, Prometheus would not know the type.
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST.partition("; charset")[0])


@get("/", include_in_schema=False, media_type="text/html")
async def get_console() -> str:
    return PAGE


ROUTES = (get_lag, list_models, rollback, list_alarms, get_lineage, healthz, readyz, get_metrics, get_console)
