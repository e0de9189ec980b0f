"""A whole Headrace as a test runs it: `headrace up` in a folder and on ports of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.services import free_ports

HEADRACE = (sys.executable, "-m", "headrace")
VERBS = ("stream", "learn", "serve")


def free_port() -> int:
    return free_ports(1)[0]


class Running:
    """A context: `headrace up`, ready to answer, and stopped after it."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.environ = {
            **os.environ,
            "HEADRACE_DATA__FOLDER": str(folder),
            "HEADRACE_SERVE__PORT": str(self.port),
            "HEADRACE_SERVE__ADMIN_KEY": "key",
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
            self.wait_until_ready(patience=300)  # the first start compiles its kernels
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
        """SIGTERM, and the exit code; AssertionError if it takes longer than it may."""
        assert self._process
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=10)

    def wait_until_ready(self, patience: float = 120) -> None:
        self._until(lambda: self.http.get("/readyz").status_code == 200, patience)

    def settle(self, patience: float = 120) -> None:
        """Wait until every acknowledged event is in the answers."""
        self._until(lambda: self.http.get("/v1/lag").json()["events"] == 0, patience)

    def wait_for_progress(self, patience: float = 60) -> None:
        """Wait until the model that answers is another one than now."""
        self.wait_until_ready()
        before = self.http.get("/v1/lag").json()["model_version"]
        self._until(lambda: self.http.get("/v1/lag").json()["model_version"] != before, patience)

    def _until(self, holds: Any, patience: float) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                if holds():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not so within {patience} s\n{(self.folder / 'up.log').read_text()[-2000:]}")

    def children(self) -> dict[str, int]:
        """Process ids of the verbs that are alive."""
        assert self._process
        found = {}
        for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split():
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            found |= {verb: int(pid) for verb in VERBS if verb in words}
        return found

    def kill(self, verb: str) -> bool:
        """kill -9 a process; whether there was one."""
        pid = self.children().get(verb)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)
        return pid is not None

    def command(self, *words: str, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run a verb against this system."""
        return subprocess.run(
            [*HEADRACE, *words],
            env={**self.environ, **(environ or {})},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def json(self, *words: str) -> Any:
        """What a verb prints as JSON."""
        done = self.command(*words, "--json")
        assert done.stdout, done.stderr
        return json.loads(done.stdout)
