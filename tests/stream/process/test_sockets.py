"""Servers listen on IPv4, on IPv6, or on both."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from headrace.ports import find_bind_error
from stream.process.sockets import bind
from tests.support.processes import HEADRACE, RunningSystem, free_port


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("127.0.0.1", ["127.0.0.1"]),
        ("::1", ["::1"]),
        ("::", ["127.0.0.1", "::1"]),
        ("[::1]", ["::1"]),
        ("0.0.0.0", ["127.0.0.1"]),
    ],
)
def test_port_is_bound_where_the_host_says(host: str, reachable: list[str]) -> None:
    with bind(host, 0) as listener:
        listener.listen()
        port = listener.getsockname()[1]
        for address in ("127.0.0.1", "::1"):
            if address in reachable:
                socket.create_connection((address, port), timeout=5).close()
            else:
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection((address, port), timeout=5)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "x" * 300])
def test_foreign_host_error_shows_the_fix(host: str) -> None:
    with pytest.raises(OSError, match=r"(no address of this machine|cannot be used) .*: .*set HEADRACE_SERVE__"):
        bind(host, free_port())


@pytest.mark.parametrize("host", ["::", "::1", "[::1]", "0.0.0.0", "localhost"])
def test_check_of_a_port_knows_every_form_of_a_host(host: str) -> None:
    port = free_port()
    before = find_bind_error(host, port)
    with bind(host, port) as listener:
        listener.listen()
        during = find_bind_error(host, port)

    assert (before, during) == ("", "Address already in use")


@contextmanager
def run_stream(folder: Path, host: str, port: int) -> Iterator[None]:
    environ = RunningSystem(folder, HEADRACE_SERVE__HOST=host, HEADRACE_STREAM__METRICS_PORT=str(port)).environ
    with subprocess.Popen([*HEADRACE, "stream"], env=environ, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()
        process.wait(30)


def fetch_status(address: str) -> int:
    deadline = time.monotonic() + 60
    while True:
        try:
            return httpx.get(f"http://{address}/metrics").status_code
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_metrics_port_is_bound_where_the_host_says(tmp_path: Path) -> None:
    port = free_port()
    with run_stream(tmp_path, "::1", port):
        assert fetch_status(f"[::1]:{port}") == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/metrics")
