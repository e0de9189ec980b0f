"""`headrace models` on a folder of a live learner."""

import json
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.commands.models import (
    ExcludedRanges,
    approve_version,
    block_version,
    diff_versions,
    list_versions,
    pause_learning,
    resume_learning,
    rollback,
    show_lineage,
    show_version,
)
from online_models.control import CheckpointCommand, Command, RollbackCommand, current_pause
from online_models.versions import checkpoints
from stream.clock import ManualClock
from stream.config import load
from stream.topics import CONTROL, open_topics
from tests.support.learner_lab import NOW, Lab, make_blocks

FIRST, LAST = "000001-000000003", "000002-000000005"
COMMANDS: Mapping[tuple[int, int], Command] = {
    (1, 3): CheckpointCommand(),
    (1, 5): RollbackCommand(FIRST, {"0": [(20, 60)]}, "label_flip-0.20"),
    (2, 5): CheckpointCommand(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lab = Lab(tmp_path, make_blocks(), COMMANDS).finish()
    lab.start().wait_for_checkpoint()
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def read_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def read_blocked_reason(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    list_versions(None, as_json=True)
    reason: str = read_json(capsys)[-1]["blocked_reason"]
    return reason


def read_pause_reason() -> str | None:
    with closing(open_topics(load(None), ManualClock(NOW))) as log:
        pause = current_pause(log, log.end_offset(CONTROL, 0))
    return pause.reason if pause else None


def test_rollbacks_are_listed_with_their_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_versions(None, as_json=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "00000" in line]

    assert ["epoch 2" in line for line in lines].count(True) == 1
    assert [line.split()[1] for line in lines if "epoch" not in line][-1] == LAST
    assert f"rolled back to {FIRST}: label_flip-0.20" in lines[-2]


def test_diff_counts_changed_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert diff_versions(FIRST, LAST, None, as_json=True) == 0
    arrays = {row["array"]: row for row in read_json(capsys)["arrays"]}
    checkpoint_folder = load(None).checkpoints
    _, old = checkpoints.load(checkpoint_folder, FIRST)
    _, new = checkpoints.load(checkpoint_folder, LAST)

    assert arrays.keys() == old.keys() | new.keys()
    assert min(array.size for array in new.values()) == 0  # arrays without rows are part of the comparison
    for name, row in arrays.items():
        is_equal = np.array_equal(old[name], new[name], equal_nan=old[name].dtype.kind == "f")

        assert (row["rows_changed"] == 0) == is_equal, name


def test_diff_of_a_version_with_itself_is_empty(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff_versions(LAST, LAST, None, as_json=True)

    assert {row["rows_changed"] for row in read_json(capsys)["arrays"]} == {0}


def test_diff_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff_versions(FIRST, LAST, None, as_json=False)

    assert f"{FIRST} → {LAST}" in capsys.readouterr().out


def test_show_prints_the_manifest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_version(LAST, None, as_json=True)

    assert read_json(capsys)["version"] == LAST


def test_lineage_names_the_rollback(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_lineage(LAST, None, as_json=True)
    versions = read_json(capsys)

    assert [version["version"] for version in versions] == [LAST, FIRST]
    assert versions[0]["rollback"] == {"to": FIRST, "reason": "label_flip-0.20"}


def test_blocked_version_is_listed_until_approved(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block_version(LAST, "bad data", None)
    blocked_reason = read_blocked_reason(capsys)
    approve_version(LAST, None)

    assert (blocked_reason, read_blocked_reason(capsys)) == ("bad data", "")


def test_pause_lasts_until_resume(folder: Path) -> None:
    pause_learning("maintenance", None)
    reason = read_pause_reason()
    resume_learning(None)

    assert (reason, read_pause_reason()) == ("maintenance", None)


@pytest.mark.parametrize(
    ("version", "excluded", "message"),
    [
        ("000009-000000001", ExcludedRanges([], [], False), "000009-000000001"),
        (FIRST, ExcludedRanges(["0:5"], [], False), "--skip '0:5' is invalid"),
        (FIRST, ExcludedRanges([], ["0:9-3"], False), "--impressions '0:9-3' is invalid"),
        (FIRST, ExcludedRanges([], [], True), "--downstream needs skipped events"),
        (FIRST, ExcludedRanges([f"0:10-{10**23}"], [], False), f"0:10-{10**23} ends after the last event"),
        (FIRST, ExcludedRanges(["9:0-1"], [], False), "--skip names partition 9; expected one of [0]"),
    ],
    ids=["unknown version", "skip", "impressions", "downstream", "after the last event", "partition"],
)
def test_impossible_rollbacks_are_rejected(
    folder: Path, version: str, excluded: ExcludedRanges, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = rollback(version, excluded, None, as_json=True)
    output = capsys.readouterr()

    assert code == 1
    assert message in output.out + output.err
