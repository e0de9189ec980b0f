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

from online_models.control import HoldOrder, Order, ResumeOrder, RollbackOrder, StrikeOrder, encode_order, hold_at
from online_models.training import journal
from online_models.training.contamination import ripple
from online_models.training.journal import Rollback
from online_models.training.rollback import Outlived, demand_kept
from online_models.training.updates import decode_update
from online_models.versions import checkpoints, gate, listing
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.clock import SystemClock
from stream.config import Settings, load
from stream.logs import EventLog
from stream.topics import CONTROL, MODEL_UPDATES, open_topics

_PATIENCE = 10.0  # seconds to wait for the learner


def list_versions(config: Path | None, as_json: bool) -> None:
    """Print all checkpoints, oldest first, with the rollbacks between them."""
    settings = load(config)
    told = listing.told(settings.checkpoints, serving_version(settings))
    hold, began = _hold(settings), _rollbacks(settings)
    if as_json:
        print(json.dumps([one | {"held": hold is not None and one["serving"]} for one in told]))
        return
    table = Table("version", "parent", "made", "events", "", title=str(settings.checkpoints))
    for one in told:
        for epoch in sorted(epoch for epoch in began if epoch <= one["epoch"]):
            _tell_rollback(table, began.pop(epoch))
        made = (
            datetime.fromtimestamp(one["created"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S") if one["created"] else ""
        )
        remark = f"[red]damaged: {one['fault']}" if one["damaged"] else "[green]serving" if one["serving"] else ""
        remark += f" [red]refused: {one['refused']}" if one["refused"] else ""
        remark += f" [yellow]alarm {one['alarm']}" if one["alarm"] else ""
        table.add_row(one["version"], one["parent"] or "", made, f"{sum(one['offsets'].values()):,}", remark)
    for entry in began.values():
        _tell_rollback(table, entry)
    Console().print(
        table if told else "no versions yet: `headrace learn` writes one every learn.checkpoint_every seconds"
    )

    if hold:
        Console().print(f"learning is held: {hold.reason}", style="yellow")


def _tell_rollback(table: Table, entry: Rollback) -> None:
    why = f": {entry.reason}" if entry.reason else ""
    table.add_row(f"epoch {entry.epoch}", entry.version, "", "", f"[yellow]rolled back to {entry.version}{why}")


def show_version(version: str, config: Path | None, as_json: bool) -> int:
    """Print a manifest."""
    settings = load(config)
    try:
        manifest = checkpoints.read_manifest(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _fail(error)
    told = {name: getattr(manifest, name) for name in manifest.__struct_fields__}
    if as_json:
        print(json.dumps(told))
    else:
        Console().print(told)
    return 0


def diff_versions(before: str, after: str, config: Path | None, as_json: bool) -> int:
    """Print how much each array changed between two versions."""
    settings = load(config)
    try:
        _, old = checkpoints.load(settings.checkpoints, before)
        _, new = checkpoints.load(settings.checkpoints, after)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _fail(error)
    rows = [
        {"array": name, "rows_before": _rows(old.get(name)), "rows_after": _rows(new.get(name)),
         "rows_changed": _changed(old.get(name), new.get(name))}
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
        line = listing.lineage(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _fail(error)
    began = _rollbacks(settings)
    for one, parent in zip(line, [*line[1:], None], strict=True):
        first = parent is None or parent["epoch"] != one["epoch"]
        entry = began.get(one["epoch"]) if first else None
        one["rollback"] = {"to": entry.version, "reason": entry.reason} if entry else None
    if as_json:
        print(json.dumps(line))
        return 0
    table = Table("version", "events up to", "left out", "began with")
    for one in line:
        back = one["rollback"]
        table.add_row(
            one["version"],
            json.dumps(one["offsets"]),
            _left_out(one),
            f"rollback to {back['to']}: {back['reason']}" if back else "",
        )
    Console().print(table)
    return 0


def _left_out(one: dict[str, Any]) -> str:
    told = ((one["skip"], ""), (one["slates"], " of slates"))
    return ", ".join(json.dumps(ranges) + of for ranges, of in told if ranges)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What a person wants left out, as PARTITION:FROM-TO."""

    events: list[str]
    slates: list[str]
    rippling: bool  # and what came of the events


def roll_back(version: str, wanted: LeftOut, config: Path | None, as_json: bool) -> int:
    """Order the learner back to a version and wait until it has gone; nothing changes if the version is no good."""
    settings = load(config)
    try:
        skip, slates = _ranges("--skip", wanted.events), _ranges("--slates", wanted.slates)
        if wanted.rippling and not skip:
            raise ValueError("--ripple follows what was skipped: say --skip PARTITION:FROM-TO as well")
        manifest = checkpoints.check(settings.checkpoints, version)
        gate.demand_served(settings.checkpoints, version)
    except (FileNotFoundError, DamagedCheckpoint, ValueError) as error:
        return _fail(error)
    with closing(open_topics(settings, SystemClock())) as log:
        try:
            demand_kept(log, manifest)
        except Outlived as error:
            return _fail(error)
        if wanted.rippling:
            skip = ripple(log, settings.checkpoints, skip)
        seen = log.end(MODEL_UPDATES, 0)
        orders: list[Order] = [StrikeOrder(slates, "by hand")] if slates else []
        orders.append(RollbackOrder(version, skip or None, "by hand", slates))
        log.append(CONTROL, 0, [(None, encode_order(order)) for order in orders])
        epoch = _wait_for_epoch(log, version, seen)
    if as_json:
        print(json.dumps({"version": version, "epoch": epoch, "done": epoch is not None}))
    elif epoch is None:
        Console().print("no learner is running: the order waits in the log, and `headrace learn` will carry it out")
    else:
        Console().print(f"rolled back to {version} as epoch {epoch}")
    return 0


def hold_learning(reason: str, config: Path | None) -> None:
    """Order the learner to take no steps."""
    _order(HoldOrder(reason or "by hand"), config)
    Console().print("learning is held until `headrace models resume`")


def resume_learning(config: Path | None) -> None:
    """Order the learner to take steps again."""
    _order(ResumeOrder("by hand"), config)
    Console().print("learning goes on")


def refuse_version(version: str, reason: str, config: Path | None) -> int:
    """Keep a version from being served from now on; with no reason given, let it be served whatever was said."""
    folder = load(config).checkpoints
    try:
        checkpoints.check(folder, version)
    except (FileNotFoundError, DamagedCheckpoint) as error:
        return _fail(error)
    gate.mark(folder, version, reason)
    Console().print(f"version {version} is refused: {reason}" if reason else f"version {version} may be served")
    return 0


def _order(order: Order, config: Path | None) -> None:
    log = open_topics(load(config), SystemClock())
    log.append(CONTROL, 0, [(None, encode_order(order))])
    log.close()


def _hold(settings: Settings) -> HoldOrder | None:
    log = open_topics(settings, SystemClock())
    hold = hold_at(log, log.end(CONTROL, 0))
    log.close()
    return hold


def _rollbacks(settings: Settings) -> dict[int, Rollback]:
    """How each epoch but the first began."""
    entries = journal.entries(settings.checkpoints / "journal")
    return {entry.epoch: entry for entry in entries if isinstance(entry, Rollback)}


def serving_version(settings: Settings) -> str:
    """The checkpoint that answers come from: the newest sound one, or the one that a rollback after it went back to."""
    wrong = gate.refused(settings.checkpoints)
    listed = [one for one in listing.listing(settings.checkpoints) if one.version not in wrong]
    sound = [one.version for one in listed if one.fault is None]
    newest = sound[-1] if sound else ""
    rolled = [path.read_text().split("\n")[0] for path in sorted((settings.checkpoints / "journal").glob("*.jsonl"))]
    for line in reversed(rolled):
        entry = json.loads(line) if line else {}
        if entry.get("type") == "rollback":
            return entry["version"] if f"{entry['epoch']:06d}" > newest[:6] else newest
    return newest


def _ranges(option: str, texts: list[str]) -> dict[str, list[tuple[int, int]]]:
    """{partition: [(from, to)]} out of PARTITION:FROM-TO."""
    ranges: dict[str, list[tuple[int, int]]] = {}
    for text in texts:
        partition, _, span = text.partition(":")
        first, _, next_ = span.partition("-")
        if not (partition.isdigit() and first.isdigit() and next_.isdigit() and int(first) < int(next_)):
            raise ValueError(f"{option} {text!r} is not PARTITION:FROM-TO with FROM below TO, such as 0:1200-1450")
        ranges.setdefault(partition, []).append((int(first), int(next_)))
    return ranges


def _wait_for_epoch(log: EventLog, version: str, seen: int) -> int | None:
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        records = log.read(MODEL_UPDATES, 0, seen, 64)
        for value in records.values:
            update = decode_update(value or b"")
            if update.base == version:
                return update.epoch
        seen = records.offsets[-1] + 1 if len(records) else seen
        time.sleep(0.02)
    return None


def _rows(array: np.ndarray | None) -> int:
    return 0 if array is None else int(array.shape[0]) if array.ndim else 1


def _changed(old: np.ndarray | None, new: np.ndarray | None) -> int:
    """Rows of the newer array that differ from the older one's."""
    if old is None or new is None or old.shape[1:] != new.shape[1:]:
        return _rows(new)
    both = min(_rows(old), _rows(new))
    if new.ndim == 0:
        return int(old.tobytes() != new.tobytes())
    differs = (old[:both].reshape(both, -1).view(np.uint8) != new[:both].reshape(both, -1).view(np.uint8)).any(axis=1)
    return int(differs.sum()) + _rows(new) - both


def _fail(error: Exception) -> int:
    Console(stderr=True).print(f"headrace: {error}", style="red", highlight=False)
    return 1
