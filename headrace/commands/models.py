"""`headrace models`: versions for people and machines."""

import json
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from online_models.control import (
    Command,
    ExcludeActionsCommand,
    PauseCommand,
    ResumeCommand,
    RollbackCommand,
    current_pause,
    encode_command,
)
from online_models.training import journal
from online_models.training.contamination import contaminated_ranges
from online_models.training.journal import Rollback
from online_models.training.rollback import RetentionExceeded, check_retained
from online_models.training.updates import decode_update
from online_models.versions import checkpoints, gate, listing
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.clock import SystemClock
from stream.config import Settings, load
from stream.logs import EventLog
from stream.topics import CONTROL, MODEL_UPDATES, open_topics

_TIMEOUT_S = 10.0  # seconds to wait for the learner


def list_versions(config: Path | None, as_json: bool) -> None:
    """Print all checkpoints, oldest first, with the rollbacks between them."""
    settings = load(config)
    versions = listing.describe_versions(settings.checkpoints, find_serving_version(settings))
    pause, rollbacks = _read_pause(settings), _read_rollbacks(settings)
    if as_json:
        print(json.dumps([version | {"paused": pause is not None and version["serving"]} for version in versions]))
        return
    table = Table("version", "parent", "made", "events", "", title=str(settings.checkpoints))
    for version in versions:
        for epoch in sorted(epoch for epoch in rollbacks if epoch <= version["epoch"]):
            _add_rollback_row(table, rollbacks.pop(epoch))
        created = (
            datetime.fromtimestamp(version["created"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
            if version["created"]
            else ""
        )
        status = (
            f"[red]damaged: {version['error']}"
            if version["damaged"]
            else "[green]serving"
            if version["serving"]
            else ""
        )
        status += f" [red]refused: {version['blocked_reason']}" if version["blocked_reason"] else ""
        status += f" [yellow]alarm {version['open_alarm']}" if version["open_alarm"] else ""
        table.add_row(
            version["version"], version["parent"] or "", created, f"{sum(version['offsets'].values()):,}", status
        )
    for entry in rollbacks.values():
        _add_rollback_row(table, entry)
    Console().print(
        table if versions else "no versions yet: `headrace learn` writes one every learn.checkpoint_every seconds"
    )

    if pause:
        Console().print(f"learning is held: {pause.reason}", style="yellow")


def _add_rollback_row(table: Table, entry: Rollback) -> None:
    reason = f": {entry.reason}" if entry.reason else ""
    table.add_row(f"epoch {entry.epoch}", entry.version, "", "", f"[yellow]rolled back to {entry.version}{reason}")


def show_version(version: str, config: Path | None, as_json: bool) -> int:
    """Print a manifest."""
    settings = load(config)
    try:
        manifest = checkpoints.read_manifest(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _print_error(error)
    fields = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    if as_json:
        print(json.dumps(fields))
    else:
        Console().print(fields)
    return 0


def diff_versions(before: str, after: str, config: Path | None, as_json: bool) -> int:
    """Print how much each array changed between two versions."""
    settings = load(config)
    try:
        _, old = checkpoints.load(settings.checkpoints, before)
        _, new = checkpoints.load(settings.checkpoints, after)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _print_error(error)
    rows = [
        {"array": name, "rows_before": _count_rows(old.get(name)), "rows_after": _count_rows(new.get(name)),
         "rows_changed": _count_changed_rows(old.get(name), new.get(name))}
        for name in sorted(old.keys() | new.keys())
    ]  # fmt: skip
    if as_json:
        print(json.dumps({"before": before, "after": after, "arrays": rows}))
        return 0
    table = Table("array", "rows before", "rows after", "rows changed", title=f"{before} → {after}")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console().print(table)
    return 0


def show_lineage(version: str, config: Path | None, as_json: bool) -> int:
    """Print a version and its forebears with the events that taught each."""
    settings = load(config)
    try:
        lineage = listing.lineage(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _print_error(error)
    rollbacks = _read_rollbacks(settings)
    for row, parent in zip(lineage, [*lineage[1:], None], strict=True):
        starts_epoch = parent is None or parent["epoch"] != row["epoch"]
        entry = rollbacks.get(row["epoch"]) if starts_epoch else None
        row["rollback"] = {"to": entry.version, "reason": entry.reason} if entry else None
    if as_json:
        print(json.dumps(lineage))
        return 0
    table = Table("version", "events up to", "left out", "began with")
    for row in lineage:
        rollback_info = row["rollback"]
        table.add_row(
            row["version"],
            json.dumps(row["offsets"]),
            _format_exclusions(row),
            f"rollback to {rollback_info['to']}: {rollback_info['reason']}" if rollback_info else "",
        )
    Console().print(table)
    return 0


def _format_exclusions(row: dict[str, Any]) -> str:
    parts = ((row["skip"], ""), (row["skip_impressions"], " of slates"))
    return ", ".join(json.dumps(ranges) + suffix for ranges, suffix in parts if ranges)


@dataclass(frozen=True, slots=True)
class ExcludedRanges:
    """What a person wants left out, as PARTITION:FROM-TO."""

    events: list[str]
    impressions: list[str]
    downstream: bool  # and what came of the events


def rollback(version: str, excluded: ExcludedRanges, config: Path | None, as_json: bool) -> int:
    """Order the learner back to a version and wait until it has gone; nothing changes if the version is no good."""
    settings = load(config)
    try:
        skip, impressions = (
            _parse_ranges("--skip", excluded.events),
            _parse_ranges("--impressions", excluded.impressions),
        )
        if excluded.downstream and not skip:
            raise ValueError("--downstream follows what was skipped: say --skip PARTITION:FROM-TO as well")
        manifest = checkpoints.check(settings.checkpoints, version)
        gate.check_servable(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint, ValueError) as error:
        return _print_error(error)
    with closing(open_topics(settings, SystemClock())) as log:
        try:
            check_retained(log, manifest)
        except RetentionExceeded as error:
            return _print_error(error)
        if excluded.downstream:
            skip = contaminated_ranges(log, settings.checkpoints, skip)
        start_offset = log.end_offset(MODEL_UPDATES, 0)
        commands: list[Command] = [ExcludeActionsCommand(impressions, "manual")] if impressions else []
        commands.append(RollbackCommand(version, skip or None, "manual", impressions))
        log.append(CONTROL, 0, [(None, encode_command(command)) for command in commands])
        epoch = _wait_for_epoch(log, version, start_offset)
    if as_json:
        print(json.dumps({"version": version, "epoch": epoch, "done": epoch is not None}))
    elif epoch is None:
        Console().print("no learner is running: the order waits in the log, and `headrace learn` will carry it out")
    else:
        Console().print(f"rolled back to {version} as epoch {epoch}")
    return 0


def pause_learning(reason: str, config: Path | None) -> None:
    """Order the learner to take no steps."""
    _send_command(PauseCommand(reason or "manual"), config)
    Console().print("learning is held until `headrace models resume`")


def resume_learning(config: Path | None) -> None:
    """Order the learner to take steps again."""
    _send_command(ResumeCommand("manual"), config)
    Console().print("learning goes on")


def override_version(version: str, reason: str, config: Path | None) -> int:
    """Keep a version from being served from now on; with no reason given, let it be served whatever was said."""
    folder = load(config).checkpoints
    try:
        checkpoints.check(folder, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _print_error(error)
    gate.override(folder, version, reason)
    Console().print(f"version {version} is refused: {reason}" if reason else f"version {version} may be served")
    return 0


def _send_command(command: Command, config: Path | None) -> None:
    log = open_topics(load(config), SystemClock())
    log.append(CONTROL, 0, [(None, encode_command(command))])
    log.close()


def _read_pause(settings: Settings) -> PauseCommand | None:
    log = open_topics(settings, SystemClock())
    pause = current_pause(log, log.end_offset(CONTROL, 0))
    log.close()
    return pause


def _read_rollbacks(settings: Settings) -> dict[int, Rollback]:
    """How each epoch but the first began."""
    entries = journal.read_entries(settings.checkpoints / "journal")
    return {entry.epoch: entry for entry in entries if isinstance(entry, Rollback)}


def find_serving_version(settings: Settings) -> str:
    """The checkpoint that answers come from: the newest sound one, or the one that a rollback after it went back to."""
    blocked = gate.list_blocked(settings.checkpoints)
    versions = [version for version in listing.read_versions(settings.checkpoints) if version.version not in blocked]
    valid = [version.version for version in versions if version.error is None]
    newest = valid[-1] if valid else ""
    first_lines = [
        path.read_text().split("\n")[0] for path in sorted((settings.checkpoints / "journal").glob("*.jsonl"))
    ]
    for line in reversed(first_lines):
        entry = json.loads(line) if line else {}
        if entry.get("type") == "rollback":
            return entry["version"] if f"{entry['epoch']:06d}" > newest[:6] else newest
    return newest


def _parse_ranges(option: str, texts: list[str]) -> dict[str, list[tuple[int, int]]]:
    """{partition: [(from, to)]} out of PARTITION:FROM-TO."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for text in texts:
        partition, _, span = text.partition(":")
        start, _, end = span.partition("-")
        if not (partition.isdigit() and start.isdigit() and end.isdigit() and int(start) < int(end)):
            raise ValueError(f"{option} {text!r} is not PARTITION:FROM-TO with FROM below TO, such as 0:1200-1450")
        ranges.setdefault(partition, []).append((int(start), int(end)))
    return ranges


def _wait_for_epoch(log: EventLog, version: str, offset: int) -> int | None:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        records = log.read(MODEL_UPDATES, 0, offset, 64)
        for value in records.values:
            update = decode_update(value or b"")
            if update.base == version:
                return update.epoch
        offset = records.offsets[-1] + 1 if len(records) else offset
        time.sleep(0.02)
    return None


def _count_rows(array: np.ndarray | None) -> int:
    return 0 if array is None else int(array.shape[0]) if array.ndim else 1


def _count_changed_rows(old: np.ndarray | None, new: np.ndarray | None) -> int:
    """Rows of the newer array that differ from the older one's."""
    if old is None or new is None or old.shape[1:] != new.shape[1:]:
        return _count_rows(new)
    shared = min(_count_rows(old), _count_rows(new))
    if new.ndim == 0:
        return int(old.tobytes() != new.tobytes())
    changed = (old[:shared].reshape(shared, -1).view(np.uint8) != new[:shared].reshape(shared, -1).view(np.uint8)).any(
        axis=1
    )
    return int(changed.sum()) + _count_rows(new) - shared


def _print_error(error: Exception) -> int:
    Console(stderr=True).print(f"headrace: {error}", style="red", highlight=False)
    return 1
