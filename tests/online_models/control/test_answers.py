"""A learner commits its position in the control topic, and skips withdrawn commands."""

from pathlib import Path

import pytest

from online_models.control import (
    Command,
    CommandFailure,
    ExcludeActionsCommand,
    PauseCommand,
    ResumeCommand,
    RollbackCommand,
    WithdrawCommand,
    encode_command,
    read_answer,
    read_pending,
    send_answer,
)
from online_models.worker import LearnWorker
from stream.logs import EventLog, Record
from stream.testing import memory_system
from stream.topics import CONTROL
from tests.support.learner_lab import Lab, find_differences, make_blocks, replay_bits


@pytest.fixture(scope="module")
def blocks() -> dict[int, list[Record]]:
    return {0: make_blocks()[0][:4]}


@pytest.fixture
def lab(tmp_path: Path, blocks: dict[int, list[Record]]) -> Lab:
    return Lab(tmp_path, blocks).finish()


def send(lab: Lab, *commands: Command | bytes) -> LearnWorker:
    values = [command if isinstance(command, bytes) else encode_command(command) for command in commands]
    lab.log.write(CONTROL, 0, *[(None, value) for value in values])
    worker = lab.start()
    worker.step(0)
    return worker


def test_log_without_commands_has_no_answer() -> None:
    assert read_answer(memory_system().log) is None


def test_answer_is_behind_the_last_command(lab: Lab) -> None:
    send(lab, PauseCommand(), ResumeCommand())
    answer = read_answer(lab.log)

    assert answer is not None
    assert (answer.next_offset, answer.failure) == (2, None)


@pytest.mark.parametrize("command", [RollbackCommand("000009-000000009"), b"\xff"], ids=["rollback", "no command"])
def test_answer_names_the_command_that_failed(lab: Lab, command: Command | bytes) -> None:
    send(lab, PauseCommand(), command, ResumeCommand())
    answer = read_answer(lab.log)

    assert answer is not None
    assert answer.failure is not None
    assert answer.failure.offset == 1
    assert answer.failure.error


def test_pending_commands_are_those_not_taken(lab: Lab) -> None:
    send(lab, PauseCommand())
    lab.log.write(CONTROL, 0, (None, encode_command(ResumeCommand("late"))))

    assert read_pending(lab.log, 1) == [(1, ResumeCommand("late"))]


def test_withdrawn_commands_change_nothing(lab: Lab, tmp_path: Path, blocks: dict[int, list[Record]]) -> None:
    exclusion = ExcludeActionsCommand({"0": [(0, 10)]})
    worker = send(lab, PauseCommand(), exclusion, *map(WithdrawCommand, (0, 1)))
    lab.finish()
    progress = lab.start().progress

    assert worker.pause is None
    assert len(worker.model.history_filter.denylist) == 0
    assert find_differences(lab.bits, replay_bits(lab, progress.epoch, progress.step)) == []


def test_late_withdrawal_of_a_pause_ends_it_also_after_a_restart(lab: Lab) -> None:
    send(lab, PauseCommand("maintenance"))
    worker = send(lab, WithdrawCommand(0))
    live_pause = worker.pause
    lab.die()

    assert live_pause is lab.start().pause is None
    assert read_failure(lab.log) is None


def test_late_withdrawal_of_another_command_is_refused(lab: Lab) -> None:
    send(lab, ExcludeActionsCommand({"0": [(0, 10)]}))
    send(lab, WithdrawCommand(0))

    assert read_failure(lab.log) == CommandFailure(1, "command 0 was carried out before it could be withdrawn")


def read_failure(log: EventLog) -> CommandFailure | None:
    answer = read_answer(log)
    assert answer is not None
    return answer.failure


def test_unreachable_log_costs_only_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    log = memory_system().log
    source = log.open_source(CONTROL, "learn")  # another learner has the group
    send_answer(log, 3, None)
    source.close()

    assert read_answer(log) is None
    assert "cannot commit offset 3" in caplog.text
