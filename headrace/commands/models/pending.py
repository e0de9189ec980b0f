"""`headrace models pending` and `withdraw`: commands that wait for the learner."""

from pathlib import Path
from typing import Any

import msgspec

from headrace.commands.installation import open_existing_log
from headrace.commands.models.answers import send_commands
from headrace.commands.output import TextTable, format_time, print_error, print_json
from online_models.control import Command, WithdrawCommand, read_answer, read_pending
from online_models.versions import listing
from stream.config import Settings, load
from stream.logs import EventLog
from stream.topics import CONTROL


def list_pending(config: Path | None, as_json: bool) -> int:
    """Print the commands that the learner has not taken yet, oldest first."""
    settings = load(config)
    with open_existing_log(settings) as log:
        rows = [_describe(log, offset, command) for offset, command in _read_pending(log, settings)]
    if as_json:
        print_json(rows)
        return 0
    if not rows:
        print("No command waits: the learner has taken all of them.")
        return 0
    table = TextTable("offset", "sent", "command", "fields", copied=("offset", "sent", "command"))
    for row in rows:
        fields = msgspec.json.encode(row["fields"]).decode()
        table.add_row(str(row["offset"]), format_time(row["sent"]), row["command"], fields)
    table.print()
    return 0


def withdraw_command(offset: int, config: Path | None, wait_s: float, as_json: bool) -> int:
    """Withdraw a command. Exit code 1: it does not wait, or the learner took it first."""
    settings = load(config)
    with open_existing_log(settings) as log:
        waiting = dict(_read_pending(log, settings))
        if offset not in waiting or isinstance(waiting[offset], WithdrawCommand):
            expected = ", ".join(map(str, waiting)) or "none waits"
            return print_error(f"command {offset} does not wait for the learner; expected one of: {expected}")
        outcome = send_commands(log, [WithdrawCommand(offset)], wait_s)
    if as_json:
        print_json(
            {"offset": offset, "withdrawn": not outcome.error, "taken": outcome.is_taken, "error": outcome.error}
        )
    elif outcome.error:
        print_error(f"not withdrawn: {outcome.error}")
    elif outcome.is_done:
        print(f"Command {offset} is withdrawn.")
    else:
        print(f"Command {offset} is withdrawn: a learner that starts skips it.")
    return 1 if outcome.error else 0


def _read_pending(log: EventLog, settings: Settings) -> list[tuple[int, Command]]:
    answer = read_answer(log)
    return read_pending(log, answer.next_offset if answer else _newest_control_offset(settings))


def _newest_control_offset(settings: Settings) -> int:
    """Position in the control topic of the newest version; 0 without a version."""
    manifests = [info.manifest for info in listing.read_versions(settings.checkpoints) if info.manifest]
    return max((manifest.control_offset for manifest in manifests), default=0)


def _describe(log: EventLog, offset: int, command: Command) -> dict[str, Any]:
    fields = msgspec.to_builtins(command)
    records = log.read(CONTROL, 0, offset, 1)
    return {"offset": offset, "sent": records.times[0], "command": fields.pop("type"), "fields": fields}
