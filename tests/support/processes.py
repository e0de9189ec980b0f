"""Run `headrace up` for a test, in its own folder and on its own ports."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.services import free_ports

HEADRACE = (sys.executable, "-m", "headrace")
VERBS = ("stream", "learn", "serve")


def free_port() -> int:
    return free_ports(1)[0]


def is_alive(pid: int) -> bool:
    """Return True if the process runs; one that ended and waits for its parent does not.

    A process whose first thread has ended keeps its sockets open until the others have ended too.
    """
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not is_zombie or len(list(Path(f"/proc/{pid}/task").iterdir())) > 1
    return False


class RunningSystem:
    """Run `headrace up` inside a `with` block: ready at its start, stopped at its end."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.environ = {
            **os.environ,
            "HEADRACE_DATA__FOLDER": str(folder),
            "HEADRACE_SERVE__PORT": str(self.port),
            "HEADRACE_SERVE__ADMIN_KEY": "key",
            "HEADRACE_SERVE__LOG_TIMEOUT": "20",  # a busy machine can stall; see test_broker_outage.py for the default
            "HEADRACE_STREAM__METRICS_PORT": str(free_port()),
            "HEADRACE_LEARN__METRICS_PORT": str(free_port()),
            **settings,
        }
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=10)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = self.folder
        folder.mkdir(parents=True, exist_ok=True)
        self._log = (folder / "up.log").open("ab")
        self._process = subprocess.Popen([*HEADRACE, "up"], env=self.environ, stderr=self._log, stdout=self._log)
        try:
            self.wait_until_ready(timeout_s=300)  # the first start compiles the kernels
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self.http.close()
        self._log.close()
        if error:
            print((self.folder / "up.log").read_text()[-4000:])

    def stop(self) -> int:
        """Send SIGTERM and return the exit code; TimeoutExpired if it takes longer than 10 s."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=10)

    def wait_until_ready(self, timeout_s: float = 120) -> None:
        self.wait_until(lambda: self.http.get("/readyz").status_code == 200, timeout_s)

    def settle(self, timeout_s: float = 120) -> None:
        """Wait until every acknowledged event is in the model that serves."""
        self.wait_until(lambda: self.lag()["events"] == 0, timeout_s)

    def lag(self) -> dict[str, Any]:
        lag: dict[str, Any] = self.http.get("/v1/lag").json()
        return lag

    def wait_for_progress(self, timeout_s: float = 60) -> None:
        """Wait until the model that serves changes."""
        self.wait_until_ready()
        before = self.lag()["model_version"]
        self.wait_until(lambda: self.lag()["model_version"] != before, timeout_s)

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = 60) -> None:
        """Poll a condition; a process that does not answer counts as False."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        log = (self.folder / "up.log").read_text()[-2000:]
        raise AssertionError(f"the condition was not true within {timeout_s} s\n{log}")

    def metric(self, verb: str, name: str, **labels: str) -> float:
        """Sum of a metric of `stream` or `learn` over all series with these labels."""
        port = self.environ[f"HEADRACE_{verb.upper()}__METRICS_PORT"]
        families = text_string_to_metric_families(httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        samples = [sample for family in families for sample in family.samples if sample.name == name]
        return sum(sample.value for sample in samples if sample.labels.items() >= labels.items())

    def children(self) -> dict[str, int]:
        """Ids of the running processes by verb."""
        assert self._process
        pids: dict[str, int] = {}
        for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            pids |= {verb: int(pid) for verb in VERBS if verb in words}
        return pids

    def kill(self, verb: str) -> bool:
        """Kill a process and wait until its sockets are closed; False if it is not running."""
        pid = self.children().get(verb)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
            while is_alive(pid):
                time.sleep(0.005)
        return pid is not None

    def command(self, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command against this system."""
        return subprocess.run(
            [*HEADRACE, *words],
            env={**self.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def json(self, *words: str) -> Any:
        """Run a command with --json and parse its output."""
        done = self.command(*words, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)
