"""Read the commands in the control topic, without those that are withdrawn."""

from collections.abc import Iterator
from contextlib import suppress

from online_models.control.commands import Command, PauseCommand, ResumeCommand, WithdrawCommand, decode_command
from stream.logs import EventLog
from stream.topics import CONTROL

_RECORDS_PER_READ = 4096


def read_commands(log: EventLog, end_offset: int, start_ts: int = 0) -> Iterator[Command]:
    """Read the valid commands before an offset, from a time on, ms."""
    return (
        command for _, command in read_commands_with_offsets(log, log.offset_for_time(CONTROL, 0, start_ts), end_offset)
    )


def read_commands_with_offsets(log: EventLog, start_offset: int, end_offset: int) -> Iterator[tuple[int, Command]]:
    """Read the valid commands in [start_offset, end_offset) with their offsets.

    A command that another one in this range withdraws is left out. So the range decides, and a replay of the same
    ranges applies the same commands.
    """
    commands = list(_read_all(log, start_offset, end_offset))
    withdrawn = {command.offset for _, command in commands if isinstance(command, WithdrawCommand)}
    yield from (entry for entry in commands if entry[0] not in withdrawn)


def _read_all(log: EventLog, start_offset: int, end_offset: int) -> Iterator[tuple[int, Command]]:
    next_offset = max(log.start_offset(CONTROL, 0), start_offset)
    while next_offset < end_offset and len(
        records := log.read(CONTROL, 0, next_offset, min(_RECORDS_PER_READ, end_offset - next_offset))
    ):
        for offset, value in zip(records.offsets, records.values, strict=True):
            with suppress(ValueError):
                yield offset, decode_command(value or b"")
        next_offset = records.offsets[-1] + 1


def current_pause(log: EventLog, end_offset: int) -> PauseCommand | None:
    """The pause of a learner that has taken the commands before an offset; None: it trains."""
    pause: PauseCommand | None = None
    for command in read_commands(log, end_offset):
        if isinstance(command, PauseCommand | ResumeCommand):
            pause = command if isinstance(command, PauseCommand) else None
    return pause
