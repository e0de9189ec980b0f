"""Routes for operators: versions, rollback, alarms and lineage."""

from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.datastructures import State
from litestar.params import FromPath

from online_models.control import Command, ExcludeActionsCommand, RollbackCommand, encode_command
from online_models.training.rollback import RangeTrained, RetentionExceeded, check_retained, check_untrained
from online_models.versions import checkpoints, gate, listing
from serving.http.errors import Problem
from serving.http.operations import Operation, contract
from serving.http.requests import decode_body, get_service, read_body
from serving.records import RollbackRequest, RollbackResult, VersionRecord
from serving.replica.serving_version import find_serving_version
from serving.service import Service
from stream.alarms import Alarm
from stream.topics import ALARMS, CONTROL

_MAX_ALARMS = 100_000
_MAX_OFFSET = 2**63 - 1
_rollback_decoder = msgspec.json.Decoder(RollbackRequest)


_VERSION = "000001-000000002"
_VERSION_EXAMPLE = {
    "version": _VERSION, "epoch": 1, "step": 2, "parent": None, "created": 1767225603210, "offsets": {"0": 12},
    "skip": {}, "skip_impressions": {}, "metrics": {}, "open_alarm": "", "blocked_reason": "", "serving": True,
    "damaged": False, "error": None,
}  # fmt: skip

_LIST_MODELS = Operation(access="admin", response=list[VersionRecord], response_example=[_VERSION_EXAMPLE])
_ROLLBACK = Operation(
    access="admin", request=RollbackRequest, request_example={"version": _VERSION, "skip": {"0": [[1200, 1450]]}},
    response=RollbackResult, response_example={"version": _VERSION, "epoch": 2}, errors=(404, 409),
)  # fmt: skip
_LIST_ALARMS = Operation(
    access="admin", response=list[Alarm],
    response_example=[
        {"id": "9c1f", "ts": 1767225603210, "depth": "actor", "kind": "poison", "detector": "repeated_actions",
         "evidence": {"actions_per_minute": 900}, "remedy": "quarantine"},
    ],
)  # fmt: skip
_GET_LINEAGE = Operation(
    access="admin", path_example={"version": _VERSION}, response=list[VersionRecord],
    response_example=[_VERSION_EXAMPLE], errors=(404,),
)  # fmt: skip


@get("/v1/models", tags=["operations"], opt=contract(_LIST_MODELS))
async def list_models(state: State) -> list[dict[str, Any]]:
    """List the versions on disk, oldest first, including damaged ones."""
    service = get_service(state)
    folder = service.settings.checkpoints
    return listing.describe_versions(folder, find_serving_version(folder, service.replica.version))


@post("/v1/models/rollback", status_code=202, tags=["operations"], opt=contract(_ROLLBACK))
async def rollback(state: State, request: Request[Any, Any, Any]) -> RollbackResult:
    """Go back to a version, and train forward again without the events to leave out."""
    service = get_service(state)
    order = decode_body(await read_body(request), _rollback_decoder)
    command = RollbackCommand(order.version, order.skip, order.reason, order.skip_impressions)
    _check_version_exists(service, command.version)
    _check_ranges(service, "skip", command.skip or {})
    _check_ranges(service, "skip_impressions", command.skip_impressions)
    await service.read_log(lambda: _check_version_usable(service, command))
    commands: list[Command] = [command]
    if command.skip_impressions:
        commands.insert(0, ExcludeActionsCommand(command.skip_impressions, command.reason))
    await service.writer.append(CONTROL, [("", encode_command(command)) for command in commands])
    return RollbackResult(command.version, service.replica.epoch + 1)


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


def _check_version_usable(service: Service, command: RollbackCommand) -> None:
    """Raise a 409 problem for a version that cannot serve, or was trained on the skipped events."""
    folder = service.settings.checkpoints
    try:
        manifest = checkpoints.check(folder, command.version)
        gate.check_servable(folder, command.version)
        check_retained(service.log, manifest)
        check_untrained(folder, manifest, command.skip or {}, command.skip_impressions)
    except RangeTrained as error:
        raise Problem(409, "Version trained on these events", str(error), field="skip") from None
    except checkpoints.DamagedCheckpoint as error:
        raise Problem(409, "Damaged version", str(error), field="version") from None
    except gate.VersionBlocked as error:
        raise Problem(409, "Blocked version", str(error), field="version") from None
    except RetentionExceeded as error:
        raise Problem(409, "Version older than the log", str(error), field="version") from None


@get("/v1/alarms", tags=["operations"], opt=contract(_LIST_ALARMS))
async def list_alarms(state: State) -> list[dict[str, Any]]:
    """List all alarms, oldest first; the list only grows."""
    service = get_service(state)
    log = service.log
    records = await service.read_log(lambda: log.read(ALARMS, 0, log.start_offset(ALARMS, 0), _MAX_ALARMS))
    return [msgspec.json.decode(value) for value in records.values if value]


@get("/v1/lineage/{version:str}", tags=["operations"], opt=contract(_GET_LINEAGE))
async def get_lineage(state: State, version: FromPath[str]) -> list[dict[str, Any]]:
    """List a version and its ancestors, newest first.

    Each has the event offsets that trained it and those that were excluded.
    """
    service = get_service(state)
    _check_version_exists(service, version)
    return listing.lineage(service.settings.checkpoints, version)


ROUTES = (list_models, rollback, list_alarms, get_lineage)
