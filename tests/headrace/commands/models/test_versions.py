"""`headrace models list`, `show`, `lineage`, `block` and `approve` on a folder of a learner."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from headrace.commands.models.gate import approve_version, block_version
from headrace.commands.models.versions import list_versions, show_lineage, show_version
from tests.headrace.commands.models.conftest import FIRST, LAST, SAVED
from tests.support.terminal import run_on_terminal


def read_json(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def read_blocked_reason(capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    list_versions(None, as_json=True)
    reason: str = read_json(capsys)[-1]["blocked_reason"]
    return reason


def test_rollbacks_are_listed_with_their_reason(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_versions(None, as_json=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "00000" in line]

    assert ["epoch 2" in line for line in lines].count(True) == 1
    assert [line.split()[0] for line in lines if "epoch" not in line and "marked" not in line][-1] == LAST
    assert lines[-2].endswith(f"rolled back to {FIRST}: label_flip-0.20")


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


@pytest.mark.parametrize("columns", [40, 80])
def test_versions_are_whole_on_a_terminal_of_any_width(folder: Path, columns: int) -> None:
    block_version(LAST, "a reason that is longer than the last column " * 5, None)
    command = [sys.executable, "-m", "headrace", "models", "list"]
    code, output = run_on_terminal(command, dict(os.environ), columns=columns)

    assert code == 0
    assert set(re.findall(r"^\d{6}-\d{9}(?= )", output, re.MULTILINE)) == {FIRST, SAVED, LAST}


def test_rows_do_not_fold_in_a_pipe(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "[bold]a long reason[/bold] " * 40
    block_version(LAST, reason, None)
    capsys.readouterr()
    list_versions(None, as_json=False)

    assert any(line.endswith(f"blocked: {reason}".rstrip()) for line in capsys.readouterr().out.splitlines())


def test_empty_list_names_the_folder_and_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path / "none"))
    codes = [list_versions(None, as_json=False), list_versions(None, as_json=True)]
    text, json_text = capsys.readouterr().out.splitlines()

    assert codes == [0, 0]
    assert text.startswith(f"No versions yet in {tmp_path / 'none' / 'checkpoints'}: `headrace up`")
    assert json.loads(json_text) == []
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("version", ["", "latest", "../000001-000000003", "000001-00000000³"])
def test_invalid_version_is_named_with_the_next_step(
    folder: Path, version: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show_version(version, None, as_json=False) == 1
    assert f"version {version!r} is invalid; expected EPOCH-STEP" in capsys.readouterr().err
    assert "`headrace models list` shows all" in show_error(version, capsys)


def show_error(version: str, capsys: pytest.CaptureFixture[str]) -> str:
    show_lineage(version, None, as_json=False)
    return capsys.readouterr().err


def test_folders_that_are_no_versions_are_not_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "checkpoints" / "000001-000000003.bak").mkdir()
    list_versions(None, as_json=True)

    assert {version["version"] for version in read_json(capsys)} == {FIRST, SAVED, LAST}
