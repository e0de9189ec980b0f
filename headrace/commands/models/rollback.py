"""`headrace models rollback`: return to an older version."""

from dataclasses import dataclass
from pathlib import Path

from headrace.commands.errors import UsageError
from headrace.commands.installation import open_existing_log
from headrace.commands.models.answers import Outcome, describe_waiting, exit_code, send_commands
from headrace.commands.models.rollback_preview import preview_rollback
from headrace.commands.output import ask, has_operator, print_error, print_json
from headrace.commands.ranges import check_ranges, parse_ranges
from online_models.control import Command, ExcludeActionsCommand, Ranges, RollbackCommand
from online_models.training.contamination import contaminated_ranges
from online_models.training.rollback import check_retained, check_untrained
from online_models.training.updates import decode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import DamagedCheckpoint, Manifest
from stream.config import Settings, load
from stream.logs import EventLog
from stream.topics import EVENTS, MODEL_UPDATES

_UPDATES_PER_READ = 64


@dataclass(frozen=True, slots=True)
class ExcludedRanges:
    """Offset ranges to exclude from training, as PARTITION:FROM-TO texts."""

    events: list[str]
    impressions: list[str]
    downstream: bool  # also exclude impressions served by versions that these events trained


@dataclass(frozen=True, slots=True)
class RollbackExecution:
    """Choices that change nothing about the rollback itself."""

    is_dry_run: bool = False
    is_confirmed: bool = False  # without a question on a terminal
    wait_s: float = 10.0
    as_json: bool = False


def rollback(version: str, excluded: ExcludedRanges, config: Path | None, execution: RollbackExecution) -> int:
    """Send a rollback to the learner and wait for it.

    Exit code 1: not possible or not confirmed, no change; or no learner answered, and the command waits.
    """
    settings = load(config)
    skip = parse_ranges("--skip", excluded.events)
    impressions = parse_ranges("--impressions", excluded.impressions)
    if excluded.downstream and not skip:
        raise UsageError("--downstream needs skipped events: add --skip PARTITION:FROM-TO")
    try:
        manifest = checkpoints.check(settings.checkpoints, version)
        gate.check_servable(settings.checkpoints, version)
        with open_existing_log(settings) as log:
            check_retained(log, manifest)
            check_ranges(log, EVENTS, "--skip", skip)
            check_ranges(log, EVENTS, "--impressions", impressions)
            if excluded.downstream:
                skip = contaminated_ranges(log, settings.checkpoints, skip)
            return _run(log, settings, manifest, (skip, impressions), execution)
    except (FileNotFoundError, DamagedCheckpoint, ValueError) as error:
        return print_error(error)


def _run(
    log: EventLog, settings: Settings, manifest: Manifest, excluded: tuple[Ranges, Ranges], execution: RollbackExecution
) -> int:
    skip, impressions = excluded
    check_untrained(settings.checkpoints, manifest, skip, impressions)
    if execution.is_dry_run or has_operator(execution.is_confirmed):
        preview = preview_rollback(log, settings.checkpoints, manifest, skip, impressions)
        if execution.is_dry_run:
            print_json(preview.to_dict()) if execution.as_json else print(f"{preview.describe()}\nNothing has changed.")
            return 0
        if not ask(f"{preview.describe()}\nRoll back to {manifest.version}?"):
            return print_error("not confirmed; nothing has changed")
    start_offset = log.end_offset(MODEL_UPDATES, 0)
    commands: list[Command] = [ExcludeActionsCommand(impressions, "manual")] if impressions else []
    commands.append(RollbackCommand(manifest.version, skip or None, "manual", impressions))
    outcome = send_commands(log, commands, execution.wait_s)
    epoch = _find_epoch(log, manifest.version, start_offset) if outcome.is_done else None
    return _report(manifest.version, epoch, outcome, execution)


def _report(version: str, epoch: int | None, outcome: Outcome, execution: RollbackExecution) -> int:
    if execution.as_json:
        fields = {"version": version, "epoch": epoch, "done": outcome.is_done, "error": outcome.error}
        print_json(fields | {"offset": outcome.offset})
    elif outcome.error:
        print_error(f"the learner refused the rollback: {outcome.error}")
    elif outcome.is_done:
        print(f"Rolled back to {version} as epoch {epoch}.")
    else:
        print(describe_waiting(outcome, execution.wait_s))
    return exit_code(outcome, execution.wait_s)


def _find_epoch(log: EventLog, version: str, offset: int) -> int | None:
    """Epoch that the rollback started, from the model updates since an offset."""
    while len(records := log.read(MODEL_UPDATES, 0, offset, _UPDATES_PER_READ)):
        for value in records.values:
            update = decode_update(value or b"")
            if update.base == version:
                return update.epoch
        offset = records.offsets[-1] + 1
    return None
