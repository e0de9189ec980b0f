"""`headrace check` reports every problem with a fix."""

import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from headrace.commands.check import run_checks
from tests.support.processes import free_port

PROCESSES = ("stream", "learn", "serve")
PORTS = ("STREAM__METRICS_PORT", "LEARN__METRICS_PORT", "SERVE__PORT")
ROWS = (
    "python", "settings", "data folder", "ranker", "codecs", "event log", "topic settings", "user store", "checkpoints",
    "port", "stream", "learn", "serve", "event flow", "clock", "alarms", "quarantine", "dead letters",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path / "data"))
    for name in PORTS:
        monkeypatch.setenv(f"HEADRACE_{name}", str(free_port()))
    return tmp_path / "data"


@pytest.fixture
def other_program() -> Iterator[int]:
    """Port of an HTTP server that is not Headrace."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"go_threads 7\n")

        def log_message(self, *arguments: object) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def run_as_json(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, dict[str, Any]]]:
    """Exit code and rows by name."""
    code = run_checks(None, as_json=True)
    report = json.loads(capsys.readouterr().out)

    assert report["ok"] == (code == 0)
    return code, {row["name"]: row for row in report["checks"]}


def test_json_has_every_row_with_name_ok_detail_and_fix(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, rows = run_as_json(capsys)

    assert {tuple(row) for row in rows.values()} == {("name", "ok", "detail", "fix")}
    assert tuple(rows) == ROWS


def test_new_folder_lacks_only_the_processes_and_stays_empty(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, rows = run_as_json(capsys)

    assert code == 1
    assert {name: row["fix"] for name, row in rows.items() if not row["ok"]} == dict.fromkeys(
        PROCESSES, "start headrace up"
    )
    assert not folder.exists()


@pytest.mark.parametrize(("process", "name"), list(zip(PROCESSES, PORTS, strict=True)))
def test_port_of_another_program_is_red_and_named(
    folder: Path,
    other_program: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    process: str,
    name: str,
) -> None:
    monkeypatch.setenv(f"HEADRACE_{name}", str(other_program))
    code, rows = run_as_json(capsys)

    assert code == 1
    assert f":{other_program} does not answer as headrace {process}" in rows[process]["detail"]
    assert f"HEADRACE_{name}" in rows[process]["fix"]
    assert rows["port"]["ok"] is (process != "serve")


def test_address_of_another_machine_fails_with_a_fix(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_SERVE__HOST", "192.0.2.1")  # TEST-NET-1: not an address of this machine
    code, rows = run_as_json(capsys)

    assert (code, rows["port"]["ok"]) == (1, False)
    assert "HEADRACE_SERVE__HOST" in rows["port"]["fix"]


@pytest.mark.parametrize("host", ["::", "::1", "0.0.0.0", "localhost"])
def test_every_form_of_a_host_is_understood(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str
) -> None:
    monkeypatch.setenv("HEADRACE_SERVE__HOST", host)
    _, rows = run_as_json(capsys)

    assert rows["port"]["ok"]
    assert "is free" in rows["port"]["detail"]


def test_used_ipv6_port_is_red(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as server:
        monkeypatch.setenv("HEADRACE_SERVE__HOST", "::")
        monkeypatch.setenv("HEADRACE_SERVE__PORT", str(server.getsockname()[1]))
        _, rows = run_as_json(capsys)

    assert not rows["port"]["ok"]


def test_folder_that_is_not_writable_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", "/proc/headrace")  # nobody can write there, root included
    code, rows = run_as_json(capsys)

    assert (code, rows["data folder"]["ok"]) == (1, False)
    assert "HEADRACE_DATA__FOLDER" in rows["data folder"]["fix"]


def test_unknown_ranker_is_red(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_LEARN__RANKER", "my_shop:Ranker")
    code, rows = run_as_json(capsys)

    assert (code, rows["ranker"]["ok"]) == (1, False)
    assert "my_shop" in rows["ranker"]["detail"]


def test_unreachable_services_are_red_in_time_and_reported_meanwhile(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts connections, answers nothing
        monkeypatch.setenv("HEADRACE_LOG__URL", f"kafka://127.0.0.1:{silent.getsockname()[1]}?patience=1.5")
        monkeypatch.setenv("HEADRACE_STORE__URL", "redis://user:secret@127.0.0.1:1/0")
        code = run_checks(None, as_json=False)
    captured = capsys.readouterr()
    red = [line.split("  ")[1] for line in captured.out.splitlines() if line.startswith("FAIL")]

    assert code == 1
    assert {"event log", "user store", "alarms", "quarantine", "dead letters", "event flow"} <= set(red)
    assert "checking: event log" in captured.err
    assert "secret" not in captured.out + captured.err


def test_invalid_settings_exit_with_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADRACE_SERVE__PROT", "1")

    assert run_checks(None, as_json=True) == 2
    assert not json.loads(capsys.readouterr().out)["ok"]
