"""`headrace up` ends with one sentence when it cannot start, and leaves nothing behind."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from stream.process.locks import acquire_lock
from tests.support.processes import HEADRACE, free_port

PORTS = ("HEADRACE_SERVE__PORT", "HEADRACE_STREAM__METRICS_PORT", "HEADRACE_LEARN__METRICS_PORT")


def run_up(folder: Path, **settings: str) -> tuple[int, str]:
    """Exit code and output of `headrace up`, which must end by itself."""
    ports = {name: str(free_port()) for name in PORTS}
    environ = {**os.environ, "HEADRACE_DATA__FOLDER": str(folder), **ports, **settings}
    done = subprocess.run([*HEADRACE, "up"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("setting", PORTS)
def test_used_port_ends_up_and_is_named(tmp_path: Path, setting: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code, output = run_up(tmp_path, **{setting: str(port)})

    assert code == 1
    assert output.count("\n") == 1
    assert f"port {port} of 127.0.0.1" in output
    assert setting in output


def test_port_used_on_the_ipv6_wildcard_is_named(tmp_path: Path) -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        code, output = run_up(tmp_path, HEADRACE_SERVE__HOST="::", HEADRACE_SERVE__PORT=str(port))

    assert code == 1
    assert f"port {port}" in output


def test_address_of_another_machine_is_named(tmp_path: Path) -> None:
    code, output = run_up(tmp_path, HEADRACE_SERVE__HOST="192.0.2.1")

    assert code == 1
    assert "192.0.2.1" in output


def test_unknown_host_is_named_with_its_setting(tmp_path: Path) -> None:
    code, output = run_up(tmp_path, HEADRACE_SERVE__HOST="nope.invalid")

    assert code == 1
    assert "nope.invalid" in output
    assert "set HEADRACE_SERVE__HOST" in output


def test_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    code, output = run_up(tmp_path / "data")

    assert code == 1
    assert f"{tmp_path / 'data'}: is no folder" in output
    assert "HEADRACE_DATA__FOLDER" in output


def test_folder_of_a_running_up_is_named(tmp_path: Path) -> None:
    with acquire_lock(tmp_path / "up.lock"):
        code, output = run_up(tmp_path)

    assert code == 1
    assert output.count("\n") == 1
    assert str(tmp_path) in output
    assert f"process {os.getpid()}" in output


def test_process_that_cannot_start_ends_up(tmp_path: Path) -> None:
    with acquire_lock(tmp_path / "checkpoints" / "learn.lock"):  # a learner that was started alone
        code, output = run_up(tmp_path)

    assert code == 1
    assert "learn cannot start" in output
