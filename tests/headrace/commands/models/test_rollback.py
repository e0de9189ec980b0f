"""`headrace models rollback` previews, asks on a terminal, and reports the learner's answer."""

import json
import os
import sys
from typing import Any

import msgspec
import pytest

from headrace.commands.errors import UsageError
from headrace.commands.models.rollback import ExcludedRanges, RollbackExecution, rollback
from online_models.training.rollback import check_untrained
from online_models.versions import checkpoints, gate
from stream.topics import CONTROL
from tests.support.live_folder import LiveFolder
from tests.support.terminal import run_on_terminal

NOTHING = ExcludedRanges([], [], False)
JSON = RollbackExecution(as_json=True)
DRY_RUN = RollbackExecution(is_dry_run=True, as_json=True)


def list_versions(live: LiveFolder) -> list[str]:
    return checkpoints.list_version_names(live.settings.checkpoints)


def read_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_rollback_reports_the_epoch_that_the_learner_started(
    live: LiveFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    first = list_versions(live)[0]
    with live.run_learner():
        code = rollback(first, NOTHING, None, JSON)

    assert code == 0
    assert read_json(capsys) == {
        "version": first, "epoch": 2, "done": True, "error": "", "offset": live.log.end_offset(CONTROL, 0) - 1,
    }  # fmt: skip


def test_rollback_without_a_learner_waits_and_exits_with_1(
    live: LiveFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    first = list_versions(live)[0]
    code = rollback(first, NOTHING, None, RollbackExecution(wait_s=0.05))
    output = capsys.readouterr().out

    assert code == 1
    assert "No learner has answered" in output
    assert f"`headrace models withdraw {live.log.end_offset(CONTROL, 0) - 1}`" in output


def test_rollback_that_the_learner_refuses_exits_with_1(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    first = list_versions(live)[0]
    rollback(first, NOTHING, None, RollbackExecution(wait_s=0))
    gate.override(live.settings.checkpoints, first, "bad data")  # after the command was checked
    with live.run_learner():
        gate.override(live.settings.checkpoints, list_versions(live)[-1], "")
        code = rollback(list_versions(live)[-1], NOTHING, None, JSON)

    assert code == 0
    assert live.learn.progress.epoch == 2  # the first one was refused


def test_dry_run_shows_the_consequences_and_changes_nothing(
    live: LiveFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = list_versions(live)
    offsets = checkpoints.read_manifest(live.settings.checkpoints, first).offsets
    now = checkpoints.read_manifest(live.settings.checkpoints, last).offsets
    n_events, end = sum(now.values()) - sum(offsets.values()), live.log.end_offset(CONTROL, 0)
    code = rollback(first, NOTHING, None, DRY_RUN)
    preview = read_json(capsys)

    assert (code, live.log.end_offset(CONTROL, 0)) == (0, end)
    assert (preview["version"], preview["epoch"]) == (first, 2)
    assert preview["steps_discarded"] == int(last.split("-")[1]) - int(first.split("-")[1])
    assert (preview["events_left_out"], preview["events_retrained"]) == (n_events, 0)


def test_dry_run_describes_the_events_of_a_range(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    first = list_versions(live)[0]
    start = checkpoints.read_manifest(live.settings.checkpoints, first).offsets["0"]
    rollback(first, ExcludedRanges([f"0:{start}-{start + 20}"], [], False), None, DRY_RUN)
    preview = read_json(capsys)
    [contents] = preview["ranges"]

    assert preview["events_left_out"] == contents["records"] == 20
    assert preview["events_retrained"] > 0
    assert sum(contents["types"].values()) == contents["events"] > 0
    assert contents["users"] > 1


@pytest.mark.parametrize("execution", [DRY_RUN, JSON, RollbackExecution()], ids=["dry run", "json", "plain"])
def test_range_that_the_version_was_trained_on_is_refused(
    live: LiveFolder, execution: RollbackExecution, capsys: pytest.CaptureFixture[str]
) -> None:
    first, last = list_versions(live)
    end = live.log.end_offset(CONTROL, 0)
    start = checkpoints.read_manifest(live.settings.checkpoints, first).offsets["0"]
    code = rollback(last, ExcludedRanges([f"0:{start}-{start + 5}"], [], False), None, execution)
    message = f"version {last} itself was trained on events of 0:{start}-{start + 5}: choose {first}, which was not"

    assert code == 1
    assert message in capsys.readouterr().err
    assert rollback(first, ExcludedRanges([], ["0:0-5"], False), None, execution) == 1
    assert "of 0:0-5: no version on disk is from before them" in capsys.readouterr().err
    assert live.log.end_offset(CONTROL, 0) == end


def test_range_that_was_left_out_before_is_no_obstacle(live: LiveFolder) -> None:
    last = list_versions(live)[-1]
    manifest = checkpoints.read_manifest(live.settings.checkpoints, last)
    end = manifest.offsets["0"]
    repeated = msgspec.structs.replace(manifest, skip={"0": [(0, end)]})

    check_untrained(live.settings.checkpoints, repeated, {"0": [(3, end + 9)]}, {"0": [(3, 9)]})


@pytest.mark.parametrize(("answer", "code"), [("n\n", 1), ("\n", 1), ("y\n", 0)], ids=["no", "nothing", "yes"])
def test_terminal_asks_before_a_rollback(live: LiveFolder, answer: str, code: int) -> None:
    first, epoch = list_versions(live)[0], live.learn.progress.epoch
    command = [sys.executable, "-m", "headrace", "models", "rollback", first]
    with live.run_learner():
        exit_code, output = run_on_terminal(command, {**os.environ, **live.environ}, answer)

    assert exit_code == code, output
    assert f"Roll back to {first}?" in output
    assert live.learn.progress.epoch - epoch == (code == 0)


@pytest.mark.parametrize(
    ("version", "excluded", "message"),
    [
        ("000009-000000001", NOTHING, "no checkpoint '000009-000000001'"),
        ("", NOTHING, "version '' is invalid; expected EPOCH-STEP"),
        ("../x", NOTHING, "version '../x' is invalid"),
        (None, ExcludedRanges([f"0:10-{10**23}"], [], False), f"0:10-{10**23} ends after the last event"),
        (None, ExcludedRanges(["9:0-1"], [], False), "--skip names partition 9; expected one of [0, 1]"),
        (None, ExcludedRanges([], ["9:0-1"], False), "--impressions names partition 9; expected one of [0, 1]"),
    ],
    ids=["unknown", "empty", "path", "after the last event", "partition", "partition of impressions"],
)
def test_impossible_rollback_changes_nothing(
    live: LiveFolder,
    version: str | None,
    excluded: ExcludedRanges,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    end = live.log.end_offset(CONTROL, 0)
    code = rollback(list_versions(live)[0] if version is None else version, excluded, None, JSON)

    assert code == 1
    assert message in capsys.readouterr().err
    assert live.log.end_offset(CONTROL, 0) == end


@pytest.mark.parametrize(
    ("excluded", "message"),
    [
        (ExcludedRanges(["0:5"], [], False), "--skip '0:5' is invalid; expected PARTITION:FROM-TO"),
        (ExcludedRanges(["0:5-5"], [], False), "--skip '0:5-5' is invalid"),
        (ExcludedRanges(["²:1-5"], [], False), "--skip '²:1-5' is invalid"),
        (ExcludedRanges([], ["0:9-3"], False), "--impressions '0:9-3' is invalid"),
        (ExcludedRanges([], [], True), "--downstream needs skipped events"),
    ],
    ids=["no end", "empty", "digits", "impressions", "downstream"],
)
def test_invalid_options_are_wrong_usage(live: LiveFolder, excluded: ExcludedRanges, message: str) -> None:
    with pytest.raises(UsageError, match=message.split(";", maxsplit=1)[0].replace("(", r"\(")):
        rollback(list_versions(live)[0], excluded, None, JSON)
