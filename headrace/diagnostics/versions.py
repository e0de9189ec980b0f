"""Check of the checkpoints: intact, and written as often as the settings say."""

import time
from pathlib import Path

from headrace.diagnostics.results import CheckResult, failed, format_count, format_seconds, passed
from online_models.training.learner_identity import describe_mismatch
from online_models.training.updates import decode_update
from online_models.versions import checkpoints
from online_models.versions.checkpoints import DamagedCheckpoint, Manifest
from stream.config import Settings
from stream.logs import EventLog
from stream.topics import MODEL_UPDATES

_VERIFICATION_S = 4.0  # for reading and hashing versions, newest first
_MAX_UPDATES = 8  # read in search of a step
_GRACE_S = 60.0  # for writing a large checkpoint in the background
_NAME = "checkpoints"


def check_checkpoints(settings: Settings, log: EventLog | None, now_ms: int) -> CheckResult:
    """Verify the versions, and compare the age of the newest with `learn.checkpoint_every`."""
    folder = settings.checkpoints
    if log and (problem := describe_mismatch(log, folder)):
        detail, _, fix = problem.partition(": ")
        return failed(_NAME, detail, fix)
    names = checkpoints.list_version_names(folder)
    if not names:
        return _check_first(settings, log, now_ms)
    verified, damaged = _verify(folder, names)
    detail = format_count(len(names), "version") + f" ({len(verified) + len(damaged)} verified)"
    if damaged or not verified:
        fix = f"damaged versions are skipped; remove them from {folder}"
        return failed(_NAME, f"{detail}, {len(damaged)} damaged: {', '.join(damaged)}", fix)
    newest = verified[0]
    detail += f", newest {newest.version}, {format_seconds((now_ms - newest.created) / 1000)} old"
    waiting_s = _unsaved_seconds(log, newest.updates_offset, now_ms)
    return _check_age(settings, detail, waiting_s)


def _check_first(settings: Settings, log: EventLog | None, now_ms: int) -> CheckResult:
    return _check_age(settings, "none yet", _unsaved_seconds(log, 0, now_ms))


def _check_age(settings: Settings, detail: str, waiting_s: float) -> CheckResult:
    every_s = settings.learn.checkpoint_every
    if waiting_s <= 2 * every_s + _GRACE_S:
        return passed(_NAME, detail)
    fix = f"read the log of learn, and check that {settings.checkpoints} is writable and has space"
    late = f"steps of {format_seconds(waiting_s)} are in no checkpoint (expected every {format_seconds(every_s)})"
    return failed(_NAME, f"{detail}; {late}", fix)


def _verify(folder: Path, names: list[str]) -> tuple[list[Manifest], list[str]]:
    """Intact and damaged versions, newest first, as far as the time allows."""
    verified: list[Manifest] = []
    damaged: list[str] = []
    deadline = time.monotonic() + _VERIFICATION_S
    for name in reversed(names):
        try:
            verified.append(checkpoints.check(folder, name))
        except (DamagedCheckpoint, OSError):
            if (folder / name).exists():  # else the learner has just deleted it
                damaged.append(name)
        if time.monotonic() > deadline:
            break
    return verified, damaged


def _unsaved_seconds(log: EventLog | None, updates_offset: int, now_ms: int) -> float:
    """Age of the first step after a checkpoint; 0 if there is none."""
    if log is None:
        return 0.0
    updates = log.read(MODEL_UPDATES, 0, max(updates_offset, log.start_offset(MODEL_UPDATES, 0)), _MAX_UPDATES)
    # The record of a rollback is no step: it needs no checkpoint.
    steps = (
        time_ms
        for time_ms, value in zip(updates.times, updates.values, strict=True)
        if not decode_update(value or b"").base
    )
    return (now_ms - next(steps, now_ms)) / 1000
