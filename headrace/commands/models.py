"""`headrace models`: list, compare and roll back versions; pause and resume training."""

import json
import math
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
from serving.replica.serving_version import find_serving_version
from stream.clock import SystemClock
from stream.config import Settings, load
from stream.logs import EventLog
from stream.topics import CONTROL, EVENTS, MODEL_UPDATES, open_topics

_LEARNER_TIMEOUT_S = 10.0


def list_versions(config: Path | None, as_json: bool) -> None:
    """Print all checkpoints, oldest first, with the rollbacks between them."""
    settings = load(config)
    versions = listing.describe_versions(settings.checkpoints, find_serving_version(settings.checkpoints))
    pause, rollbacks = _read_pause(settings), _read_rollbacks(settings)
    if as_json:
        print(json.dumps([version | {"paused": pause is not None and version["serving"]} for version in versions]))
        return
    table = Table("version", "parent", "created", "events", "status", title=str(settings.checkpoints))
    for version in versions:
        for epoch in sorted(epoch for epoch in rollbacks if epoch <= version["epoch"]):
            _add_rollback_row(table, rollbacks.pop(epoch))
        events = f"{sum(version['offsets'].values()):,}"
        created = _format_time(version["created"])
        table.add_row(version["version"], version["parent"] or "", created, events, _format_status(version))
    for entry in rollbacks.values():
        _add_rollback_row(table, entry)
    empty = "No versions yet: `headrace learn` writes one every learn.checkpoint_every seconds."
    Console().print(table if versions else empty)
    if pause:
        Console().print(f"Training is paused: {pause.reason}", style="yellow")


def _format_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if ms else ""


def _format_status(version: dict[str, Any]) -> str:
    parts = [
        f"[red]damaged: {version['error']}" if version["damaged"] else "",
        "[green]serving" if version["serving"] and not version["damaged"] else "",
        f"[red]blocked: {version['blocked_reason']}" if version["blocked_reason"] else "",
        f"[yellow]alarm {version['open_alarm']}" if version["open_alarm"] else "",
    ]
    return " ".join(filter(None, parts))


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
    rows = [_diff_array(name, old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    if as_json:
        print(json.dumps({"before": before, "after": after, "arrays": rows}))
        return 0
    table = Table("array", "rows before", "rows after", "rows changed", title=f"{before} → {after}")
    for row in rows:
        table.add_row(*(f"{value:,}" if isinstance(value, int) else str(value) for value in row.values()))
    Console().print(table)
    return 0


def _diff_array(name: str, old: np.ndarray | None, new: np.ndarray | None) -> dict[str, str | int]:
    return {
        "array": name,
        "rows_before": _count_rows(old),
        "rows_after": _count_rows(new),
        "rows_changed": _count_changed_rows(old, new),
    }


def show_lineage(version: str, config: Path | None, as_json: bool) -> int:
    """Print a version and its ancestors with the events that trained each."""
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
    table = Table("version", "events up to", "excluded", "started by")
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
    parts = ((row["skip"], ""), (row["skip_impressions"], " (impressions)"))
    return ", ".join(json.dumps(ranges) + suffix for ranges, suffix in parts if ranges)


@dataclass(frozen=True, slots=True)
class ExcludedRanges:
    """Offset ranges to exclude from training, as PARTITION:FROM-TO texts."""

    events: list[str]
    impressions: list[str]
    downstream: bool  # also exclude impressions served by versions that these events trained


def rollback(version: str, excluded: ExcludedRanges, config: Path | None, as_json: bool) -> int:
    """Send a rollback to the learner and wait for it. Exit code 1: not possible, no change."""
    settings = load(config)
    try:
        skip = _parse_ranges("--skip", excluded.events)
        impressions = _parse_ranges("--impressions", excluded.impressions)
        if excluded.downstream and not skip:
            raise ValueError("--downstream needs skipped events: add --skip PARTITION:FROM-TO")
        manifest = checkpoints.check(settings.checkpoints, version)
        gate.check_servable(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint, ValueError) as error:
        return _print_error(error)
    with closing(open_topics(settings, SystemClock())) as log:
        try:
            check_retained(log, manifest)
            _check_offsets(log, "--skip", skip)
            _check_offsets(log, "--impressions", impressions)
        except (RetentionExceeded, ValueError) as error:
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
        Console().print("No answer from the learner: it is stopped, and the command waits, or its log has an error.")
    else:
        Console().print(f"Rolled back to {version} as epoch {epoch}.")
    return 0


def pause_learning(reason: str, config: Path | None) -> None:
    """Send a pause command to the learner."""
    _send_command(PauseCommand(reason or "manual"), config)
    Console().print("Training is paused until `headrace models resume`.")


def resume_learning(config: Path | None) -> None:
    """Send a resume command to the learner."""
    _send_command(ResumeCommand("manual"), config)
    Console().print("Training resumes.")


def block_version(version: str, reason: str, config: Path | None) -> int:
    """Block a version from serving."""
    return _override_gate(version, reason, config, f"Version {version} is blocked: {reason}")


def approve_version(version: str, config: Path | None) -> int:
    """Allow a version to serve, overriding the guard."""
    return _override_gate(version, "", config, f"Version {version} may serve.")


def _override_gate(version: str, reason: str, config: Path | None, message: str) -> int:
    folder = load(config).checkpoints
    try:
        checkpoints.check(folder, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _print_error(error)
    gate.override(folder, version, reason)
    Console().print(message)
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
    """Rollback that started each epoch, by epoch; the first epoch has none."""
    entries = journal.read_entries(settings.checkpoints / "journal")
    return {entry.epoch: entry for entry in entries if isinstance(entry, Rollback)}


def _parse_ranges(option: str, texts: list[str]) -> dict[str, list[tuple[int, int]]]:
    """Parse PARTITION:FROM-TO texts into {partition: [(from, to)]}."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for text in texts:
        partition, _, span = text.partition(":")
        start, _, end = span.partition("-")
        if not (partition.isdigit() and start.isdigit() and end.isdigit() and int(start) < int(end)):
            raise ValueError(
                f"{option} {text!r} is invalid; expected PARTITION:FROM-TO with FROM < TO, such as 0:1200-1450"
            )
        ranges.setdefault(partition, []).append((int(start), int(end)))
    return ranges


def _check_offsets(log: EventLog, option: str, ranges: dict[str, list[tuple[int, int]]]) -> None:
    """ValueError if a range names a partition or offsets that the events topic does not have."""
    ends = log.end_offsets(EVENTS)
    for partition, spans in ranges.items():
        end = ends.get(int(partition))
        if end is None:
            raise ValueError(f"{option} names partition {partition}; expected one of {sorted(ends)}")
        for first, next_ in spans:
            if next_ > end:
                raise ValueError(
                    f"{option} {partition}:{first}-{next_} ends after the last event; expected TO of at most {end}"
                )


def _wait_for_epoch(log: EventLog, version: str, offset: int) -> int | None:
    deadline = time.monotonic() + _LEARNER_TIMEOUT_S
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
    """Number of new or changed rows of `new`; all of them if the type or row shape changed."""
    if old is None or new is None or old.dtype != new.dtype or old.shape[1:] != new.shape[1:]:
        return _count_rows(new)
    shared = min(_count_rows(old), _count_rows(new))
    is_changed = (_row_bytes(old, shared) != _row_bytes(new, shared)).any(axis=1)
    return int(is_changed.sum()) + _count_rows(new) - shared


def _row_bytes(array: np.ndarray, n_rows: int) -> np.ndarray:
    """The first rows as bytes, (n_rows, bytes per row) uint8; a scalar is one row."""
    rows = np.atleast_1d(array)[:n_rows]
    return np.frombuffer(rows.tobytes(), np.uint8).reshape(n_rows, rows.itemsize * math.prod(rows.shape[1:]))


def _print_error(error: Exception) -> int:
    Console(stderr=True).print(f"headrace: {error}", style="red", highlight=False)
    return 1
