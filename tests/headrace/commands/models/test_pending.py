"""Commands that wait for the learner are listed and can be withdrawn."""

import json
from typing import Any

import pytest

from headrace.commands.models.pending import list_pending, withdraw_command
from headrace.commands.models.training import pause_learning, resume_learning
from stream.topics import CONTROL
from tests.support.live_folder import LiveFolder


def read_pending(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    list_pending(None, as_json=True)
    pending: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return pending


def test_command_is_pending_until_the_learner_takes_it(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    pause_learning("maintenance", None, 0)
    [row] = read_pending(capsys)
    live.process()

    assert (row["offset"], row["command"]) == (live.log.end_offset(CONTROL, 0) - 1, "pause")
    assert row["fields"]["reason"] == "maintenance"
    assert read_pending(capsys) == []


def test_withdrawn_command_is_not_carried_out(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    pause_learning("maintenance", None, 0)
    [row] = read_pending(capsys)
    code = withdraw_command(row["offset"], None, 0, as_json=False)
    left = [entry["command"] for entry in read_pending(capsys)]
    live.process()

    assert (code, left) == (0, ["withdraw"])
    assert live.learn.pause is None


def test_table_names_offset_and_command(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    resume_learning(None, 0)
    capsys.readouterr()
    list_pending(None, as_json=False)
    lines = capsys.readouterr().out.splitlines()

    assert lines[0].split() == ["offset", "sent", "command", "fields"]
    assert lines[-1].split()[0] == str(live.log.end_offset(CONTROL, 0) - 1)


@pytest.mark.parametrize("offset", [0, 10**12], ids=["taken", "unknown"])
def test_command_that_does_not_wait_cannot_be_withdrawn(
    live: LiveFolder, offset: int, capsys: pytest.CaptureFixture[str]
) -> None:
    end = live.log.end_offset(CONTROL, 0)

    assert withdraw_command(offset, None, 0, as_json=False) == 1
    assert "does not wait for the learner; expected one of: none waits" in capsys.readouterr().err
    assert live.log.end_offset(CONTROL, 0) == end
