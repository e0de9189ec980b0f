"""Commands are read in order, without those that are withdrawn."""

import pytest

from online_models.control import (
    CheckpointCommand,
    Command,
    PauseCommand,
    ResumeCommand,
    WithdrawCommand,
    current_pause,
    encode_command,
    read_commands_with_offsets,
)
from stream.logs import EventLog
from stream.testing import memory_system

PAUSE, RESUME = PauseCommand("a"), ResumeCommand("b")


def make_log(*commands: Command | bytes) -> EventLog:
    values = [command if isinstance(command, bytes) else encode_command(command) for command in commands]
    return memory_system({"control": values}).log


def test_invalid_commands_are_skipped() -> None:
    log = make_log(b"no json", CheckpointCommand())

    assert list(read_commands_with_offsets(log, 0, 2)) == [(1, CheckpointCommand())]


def test_withdrawn_command_is_left_out() -> None:
    log = make_log(PAUSE, CheckpointCommand(), WithdrawCommand(0))

    assert [offset for offset, _ in read_commands_with_offsets(log, 0, 3)] == [1, 2]


def test_withdrawal_outside_the_range_has_no_effect() -> None:
    log = make_log(PAUSE, WithdrawCommand(0))

    assert [offset for offset, _ in read_commands_with_offsets(log, 0, 1)] == [0]


@pytest.mark.parametrize(
    ("commands", "pause"),
    [
        ([PAUSE], PAUSE),
        ([PAUSE, RESUME], None),
        ([PAUSE, WithdrawCommand(0)], None),
        ([PAUSE, RESUME, WithdrawCommand(1)], PAUSE),
    ],
    ids=["pause", "resume", "pause withdrawn", "resume withdrawn"],
)
def test_the_last_valid_command_decides_the_pause(commands: list[Command], pause: PauseCommand | None) -> None:
    assert current_pause(make_log(*commands), len(commands)) == pause
