"""`headrace models list`, `show` and `lineage`."""

import json
from pathlib import Path
from typing import Any

from rich.text import Text

from headrace.commands.installation import has_log, open_existing_log, read_serving_state
from headrace.commands.output import TextTable, format_time, print_error, print_json
from online_models.control import PauseCommand, current_pause
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.versions import checkpoints, listing
from online_models.versions.checkpoints import DamagedCheckpoint
from serving.replica.serving_version import find_serving_version
from stream.config import Settings, load
from stream.topics import CONTROL


def list_versions(config: Path | None, as_json: bool) -> int:
    """Print all checkpoints, oldest first, with the rollbacks between them."""
    settings = load(config)
    state = read_serving_state(settings)
    versions = listing.describe_versions(settings.checkpoints, find_serving_version(settings.checkpoints, state))
    pause = _read_pause(settings)
    if as_json:
        print_json([version | {"paused": pause is not None and version["serving"]} for version in versions])
        return 0
    if versions:
        _print_versions(settings, versions)
        print(_describe_serving(state))
    else:
        print(
            f"No versions yet in {settings.checkpoints.resolve()}: `headrace up` or `headrace learn` writes one every "
            f"{settings.learn.checkpoint_every:g} s once events arrive."
        )
    if pause:
        print(f"Training is paused: {pause.reason}; `headrace models resume` ends the pause.")
    return 0


def _print_versions(settings: Settings, versions: list[dict[str, Any]]) -> None:
    rollbacks = _read_rollbacks(settings)
    table = TextTable(
        "version", "parent", "created", "events", "status", copied=("version", "parent", "created", "events"),
        title=str(settings.checkpoints),
    )  # fmt: skip
    for version in versions:
        for epoch in sorted(epoch for epoch in rollbacks if epoch <= version["epoch"]):
            _add_rollback_row(table, rollbacks.pop(epoch))
        events = f"{sum(version['offsets'].values()):,}"
        created = format_time(version["created"])
        table.add_row(version["version"], version["parent"] or "", created, events, _format_status(version))
    for entry in rollbacks.values():
        _add_rollback_row(table, entry)
    table.print()


def _describe_serving(state: str) -> str:
    if state:
        return f"The serve process serves {state}; the newest version that this state includes is marked."
    return "No serve process of this installation answers here; the version that a new one loads is marked."


def _format_status(version: dict[str, Any]) -> Text:
    parts = [
        (f"damaged: {version['error']}", "red") if version["damaged"] else None,
        ("serving", "green") if version["serving"] and not version["damaged"] else None,
        (f"blocked: {version['blocked_reason']}", "red") if version["blocked_reason"] else None,
        (f"alarm {version['open_alarm']}", "yellow") if version["open_alarm"] else None,
    ]
    return Text(" ").join(Text(text, style) for text, style in filter(None, parts))


def _add_rollback_row(table: TextTable, entry: Rollback) -> None:
    reason = f": {entry.reason}" if entry.reason else ""
    status = Text(f"rolled back to {entry.version}{reason}", "yellow")
    table.add_row(f"epoch {entry.epoch}", entry.version, "", "", status)


def show_version(version: str, config: Path | None, as_json: bool) -> int:
    """Print a manifest."""
    settings = load(config)
    try:
        manifest = checkpoints.read_manifest(settings.checkpoints, version)
    except (FileNotFoundError, ValueError, DamagedCheckpoint) as error:
        return print_error(error)
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    print(json.dumps(fields, indent=None if as_json else 2))
    return 0


def show_lineage(version: str, config: Path | None, as_json: bool) -> int:
    """Print a version and its ancestors with the events that trained each."""
    settings = load(config)
    try:
        lineage = listing.lineage(settings.checkpoints, version)
    except (FileNotFoundError, ValueError, DamagedCheckpoint) as error:
        return print_error(error)
    rollbacks = _read_rollbacks(settings)
    for row, parent in zip(lineage, [*lineage[1:], None], strict=True):
        starts_epoch = parent is None or parent["epoch"] != row["epoch"]
        entry = rollbacks.get(row["epoch"]) if starts_epoch else None
        row["rollback"] = {"to": entry.version, "reason": entry.reason} if entry else None
    if as_json:
        print_json(lineage)
        return 0
    table = TextTable("version", "events up to", "excluded", "started by", copied=("version",))
    for row in lineage:
        origin = row["rollback"]
        started_by = f"rollback to {origin['to']}: {origin['reason']}" if origin else ""
        table.add_row(row["version"], json.dumps(row["offsets"]), _format_exclusions(row), started_by)
    table.print()
    return 0


def _format_exclusions(row: dict[str, Any]) -> str:
    parts = ((row["skip"], ""), (row["skip_impressions"], " (impressions)"))
    return ", ".join(json.dumps(ranges) + suffix for ranges, suffix in parts if ranges)


def _read_pause(settings: Settings) -> PauseCommand | None:
    if not has_log(settings):
        return None
    with open_existing_log(settings) as log:
        return current_pause(log, log.end_offset(CONTROL, 0))


def _read_rollbacks(settings: Settings) -> dict[int, Rollback]:
    """Rollback that started each epoch, by epoch; the first epoch has none."""
    entries = journal.read_entries(settings.checkpoints / "journal")
    return {entry.epoch: entry for entry in entries if isinstance(entry, Rollback)}
