"""`headrace serve` listens before it loads, and answers until load balancers turn away."""

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Signal

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.server import serve_http
from stream.config import ServeSettings, Settings
from tests.support.processes import HEADRACE, RunningSystem


def test_port_in_use_error_shows_the_fix() -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        with pytest.raises(OSError, match=rf"port {port} of 127.0.0.1 .* set HEADRACE_SERVE__PORT to a free port"):
            serve_http(Settings(serve=ServeSettings(port=port)), Signal())


@contextmanager
def run_serve(folder: Path, **settings: str) -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    system = RunningSystem(folder, **settings)
    process = subprocess.Popen([*HEADRACE, "serve"], env=system.environ, stderr=subprocess.PIPE, text=True)
    with process, httpx.Client(base_url=f"http://127.0.0.1:{system.port}", timeout=20) as http:
        try:
            yield process, http
        finally:
            if process.poll() is None:
                process.kill()


def wait_until(condition: Callable[[], bool], timeout_s: float = 200) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_liveness_is_answered_before_readiness(tmp_path: Path) -> None:
    with run_serve(tmp_path) as (process, http):
        wait_until(lambda: http.get("/healthz").status_code == 200)
        loading = http.get("/readyz")
        wait_until(lambda: http.get("/readyz").status_code == 200)
        process.send_signal(signal.SIGTERM)

        assert loading.status_code == 503
        assert loading.json()["title"] == "Loading"
        assert process.wait(10) == 0


def test_process_that_compiles_stops_in_time(tmp_path: Path) -> None:
    with run_serve(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "empty")) as (process, http):
        wait_until(lambda: http.get("/healthz").status_code == 200)
        process.send_signal(signal.SIGTERM)

        assert process.wait(9) == 0


def test_service_that_cannot_load_ends_with_its_error(tmp_path: Path) -> None:
    with run_serve(tmp_path, HEADRACE_LOG__URL="kafka://127.0.0.1:1?patience=0.5") as (process, _):
        _, output = process.communicate(timeout=60)

        assert process.returncode == 1
        assert "headrace: kafka://127.0.0.1:1: no broker answered" in output.splitlines()[-1]


def test_lame_duck_answers_requests_until_it_drains(tmp_path: Path) -> None:
    with run_serve(tmp_path, HEADRACE_SERVE__LAME_DUCK="2") as (process, http):
        wait_until(lambda: http.get("/readyz").status_code == 200)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: http.get("/readyz").status_code == 503, timeout_s=1)
        health, items = http.get("/healthz"), http.post("/v1/items", json=[{"item_id": "a"}])
        code, seconds = process.wait(12), time.monotonic() - started

        assert (health.status_code, items.status_code, code) == (200, 202, 0)
        assert items.headers["connection"] == "close"
        assert seconds >= 2


def read_sample(system: RunningSystem, name: str) -> float:
    """Value of a metric in one scrape of the shared port, over a new connection."""
    text = httpx.get(f"http://127.0.0.1:{system.port}/metrics").text
    samples = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    ]
    assert len(samples) == 1, samples
    return samples[0]


@pytest.mark.slow
def test_processes_of_one_port_report_one_sum(tmp_path: Path) -> None:
    name = "headrace_recommendations_total"
    with RunningSystem(tmp_path, HEADRACE_SERVE__PROCESSES="2") as system:
        system.wait_until(lambda: (tmp_path / "up.log").read_text().count("serving on") == 2)
        system.http.post("/v1/items", json=[{"item_id": "a"}, {"item_id": "b"}])
        for n in range(40):
            body = {"user_id": f"u{n}", "k": 2}
            httpx.post(f"http://127.0.0.1:{system.port}/v1/recommendations", json=body).raise_for_status()
        counts = {read_sample(system, name) for _ in range(12)}
        memory = read_sample(system, "process_resident_memory_bytes")
        gauges = [read_sample(system, gauge) for gauge in ("headrace_model_epoch", "headrace_catalog_items")]
        system.kill("serve")
        after = [read_sample(system, name) for _ in range(12)]
        less_memory = read_sample(system, "process_resident_memory_bytes")

    assert counts == {40.0}
    assert set(after) == {40.0}
    assert less_memory < memory
    assert len(gauges) == 2
