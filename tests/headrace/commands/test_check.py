"""`headrace check` reports every problem with a fix."""

import json
import socket
from pathlib import Path

import pytest

from headrace.commands.check import run_checks


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_json_has_name_ok_detail_and_fix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_checks(None, as_json=True)
    checks = json.loads(capsys.readouterr().out)["checks"]

    assert {tuple(check) for check in checks} == {("name", "ok", "detail", "fix")}
    assert {"settings", "event log", "user store", "checkpoints", "port"} <= {check["name"] for check in checks}


def test_table_has_the_columns_of_the_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_checks(None, as_json=False)
    head = capsys.readouterr().out.splitlines()[1]

    assert [word.strip() for word in head.strip("┃").split("┃")] == ["ok", "name", "detail", "fix"]


def test_used_port_of_another_address_fails_with_a_fix(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_SERVE__HOST", "192.0.2.1")  # TEST-NET-1: not an address of this machine
    code = run_checks(None, as_json=True)
    [port] = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "port"]

    assert (code, port["ok"]) == (1, False)
    assert "HEADRACE_SERVE__HOST" in port["fix"]


def test_listening_port_is_fine(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("HEADRACE_SERVE__HOST", "127.0.0.1")
        monkeypatch.setenv("HEADRACE_SERVE__PORT", str(server.getsockname()[1]))
        run_checks(None, as_json=True)
    [port] = [check for check in json.loads(capsys.readouterr().out)["checks"] if check["name"] == "port"]

    assert port["ok"]
    assert "in use" in port["detail"]


def test_invalid_settings_exit_with_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_SERVE__PROT", "1")

    assert run_checks(None, as_json=True) == 2
    assert not json.loads(capsys.readouterr().out)["ok"]
