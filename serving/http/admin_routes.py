"""Routes for operators: health, lag, versions, alarms and the console."""

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
from serving.http.errors import Problem
from serving.http.requests import decode_body, get_service, read_body
from serving.records import Lag
from serving.replica.serving_version import find_serving_version
from serving.service import Service
from stream.topics import ALARMS, CONTROL

_MAX_ALARMS = 100_000
_MAX_OFFSET = 2**63 - 1
_rollback_decoder = msgspec.json.Decoder(RollbackCommand)


@get("/v1/lag", tags=["operations"])
async def get_lag(state: State) -> Lag:
    """Return the number of acknowledged events that recommendations do not reflect yet."""
    by_partition = await get_service(state).measure_lag()
    return Lag(sum(by_partition.values()), by_partition, get_service(state).replica.version)


def _require_admin(state: State, request: Request[Any, Any, Any]) -> Service:
    """Check the admin key and return the service; 401 without a key, 403 with a wrong one."""
    service = get_service(state)
    key = service.settings.serve.admin_key
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if not token or scheme.lower() != "bearer":
        raise Problem(401, "Admin key required", "send Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})
    if not key:
        raise Problem(403, "No admin key is configured", "set HEADRACE_SERVE__ADMIN_KEY and restart serve")
    if not hmac.compare_digest(token.encode(), key.encode()):
        raise Problem(403, "Wrong admin key", "the key differs from HEADRACE_SERVE__ADMIN_KEY")
    return service


@get("/v1/models", tags=["operations"])
async def list_models(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """List the versions on disk, oldest first, including damaged ones."""
    service = _require_admin(state, request)
    folder = service.settings.checkpoints
    return listing.describe_versions(folder, find_serving_version(folder, service.replica.version))


@post("/v1/models/rollback", status_code=202, tags=["operations"])
async def rollback(state: State, request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Roll back to a version.

    Body: {"version": "…", "skip": {"0": [[from, to]]}, "skip_impressions": {"0": [[from, to]]}}. `skip` excludes event
    offsets from training, by partition; `skip_impressions` excludes impressions and their actions.
    """
    service = _require_admin(state, request)
    command = decode_body(await read_body(request), _rollback_decoder)
    _check_version_exists(service, command.version)
    _check_ranges(service, "skip", command.skip or {})
    _check_ranges(service, "skip_impressions", command.skip_impressions)
    _check_version_usable(service, command.version)
    commands: list[Command] = [command]
    if command.skip_impressions:
        commands.insert(0, ExcludeActionsCommand(command.skip_impressions, command.reason))
    await service.writer.append(CONTROL, [("", encode_command(command)) for command in commands])
    return {"version": command.version, "epoch": service.replica.epoch + 1}


def _check_version_exists(service: Service, version: str) -> None:
    if version not in checkpoints.list_version_names(service.settings.checkpoints):
        detail = f"version {version!r} does not exist; GET /v1/models lists the versions"
        raise Problem(404, "Unknown version", detail, field="version")


def _check_ranges(service: Service, name: str, ranges_by_partition: dict[str, list[tuple[int, int]]]) -> None:
    known_partitions = sorted(service.replica.covered_offsets)
    for partition, ranges in ranges_by_partition.items():
        if partition not in known_partitions or not all(0 <= a < b <= _MAX_OFFSET for a, b in ranges):
            detail = f"{name} has {partition!r}: {ranges}; expected [[first, next], …] by partition {known_partitions}"
            raise Problem(422, "Invalid range", detail, field=name)


def _check_version_usable(service: Service, version: str) -> None:
    """Raise a 409 problem if the version is damaged, blocked, or older than the log."""
    folder = service.settings.checkpoints
    try:
        manifest = checkpoints.check(folder, version)
        gate.check_servable(folder, version)
        check_retained(service.log, manifest)
    except checkpoints.DamagedCheckpoint as error:
        raise Problem(409, "Damaged version", str(error), field="version") from None
    except gate.VersionBlocked as error:
        raise Problem(409, "Blocked version", str(error), field="version") from None
    except RetentionExceeded as error:
        raise Problem(409, "Version older than the log", str(error), field="version") from None


@get("/v1/alarms", tags=["operations"])
async def list_alarms(state: State, request: Request[Any, Any, Any]) -> list[dict[str, Any]]:
    """List all alarms, oldest first; the list only grows."""
    log = _require_admin(state, request).log
    records = log.read(ALARMS, 0, log.start_offset(ALARMS, 0), _MAX_ALARMS)
    return [msgspec.json.decode(value) for value in records.values if value]


@get("/v1/lineage/{version:str}", tags=["operations"])
async def get_lineage(state: State, request: Request[Any, Any, Any], version: FromPath[str]) -> list[dict[str, Any]]:
    """List a version and its ancestors, newest first.

    Each has the event offsets that trained it and those that were excluded.
    """
    service = _require_admin(state, request)
    _check_version_exists(service, version)
    return listing.lineage(service.settings.checkpoints, version)


@get("/healthz", tags=["health"])
async def healthz() -> dict[str, str]:
    """Return 200 while the process runs."""
    return {"status": "alive"}


@get("/readyz", tags=["health"])
async def readyz(state: State) -> dict[str, Any]:
    """Return 200 once the model is loaded and warmed up.

    `blocked_reason` is present while a newer version does not serve.
    """
    service = get_service(state)
    replica = service.replica
    status = {
        "status": "ready",
        "model_version": replica.version,
        "items": len(replica.catalog),
        "installation": service.settings.installation,
    }
    return status | ({"blocked_reason": replica.blocked_reason} if replica.blocked_reason else {})


@get("/metrics", tags=["health"])
async def get_metrics() -> Response[bytes]:
    """Return the metrics in the Prometheus text format."""
    # Litestar adds a charset; Prometheus rejects a content type with two.
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST.partition("; charset")[0])


@get("/", include_in_schema=False, media_type="text/html")
async def get_console() -> str:
    return PAGE


ROUTES = (get_lag, list_models, rollback, list_alarms, get_lineage, healthz, readyz, get_metrics, get_console)
