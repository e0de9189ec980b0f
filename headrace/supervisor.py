"""The processes on one machine: started together, restarted when one dies, stopped together."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event as Signal
from types import TracebackType
from typing import IO, Self

VERBS = ("stream", "learn", "serve")
_STOP_TIMEOUT_S = 8.0  # seconds that a process has to stop by itself
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0)  # seconds before a restart, by how often it died in a row
_STABLE_AFTER_S = 5.0  # seconds after which a process is taken to have run well
_BACKGROUND_NICENESS = 5  # niceness of what may wait a moment, so that answers do not wait for it where cores are few
_logger = logging.getLogger(__name__)


class ProcessSupervisor:
    """A context: the processes run inside it and are gone after it."""

    def __init__(
        self,
        config: Path | None = None,
        environ: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
        servers: int = 1,
    ) -> None:
        self._options = ["--child"] if config is None else ["--child", "--config", str(config)]
        self._environ = {**os.environ, **(environ or {})}
        self._output = output  # of the children; None: where this process writes
        # By name: its verb, and behind the first of several of a kind, which one.
        self._verbs = {verb: verb for verb in VERBS} | {f"serve {n}": "serve" for n in range(2, servers + 1)}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._crash_counts = dict.fromkeys(self._verbs, 0)
        self._started_at = dict.fromkeys(self._verbs, 0.0)
        self._restart_at = dict.fromkeys(self._verbs, 0.0)

    def __enter__(self) -> Self:
        for name in self._verbs:
            self._start(name)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def run(self, stop: Signal) -> None:
        """Restart what dies, until told to stop."""
        while not stop.wait(0.1):
            self.restart_dead()

    def restart_dead(self) -> None:
        """Restart each process that has died, later and later if it keeps dying."""
        now = time.monotonic()
        for name, child in self._children.items():
            if child.poll() is None:
                continue
            if not self._restart_at[name]:
                self._crash_counts[name] = (
                    1 if now - self._started_at[name] > _STABLE_AFTER_S else self._crash_counts[name] + 1
                )
                delay = _BACKOFF_S[min(self._crash_counts[name], len(_BACKOFF_S)) - 1]
                self._restart_at[name] = now + delay
                _logger.error("%s died with exit code %s; starting it again in %.1f s", name, child.returncode, delay)
        for name, restart_at in self._restart_at.items():
            if restart_at and now >= restart_at:
                self._start(name)

    def crash_looping(self) -> str | None:
        """The process that dies each time it is started, None if there is none."""
        return next((name for name, crashes in self._crash_counts.items() if crashes >= len(_BACKOFF_S)), None)

    def stop(self) -> None:
        """Ask all to stop, and make those stop that do not."""
        for child in self._children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for name, child in self._children.items():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _logger.error("%s did not stop within %.0f s and was killed", name, _STOP_TIMEOUT_S)
                child.kill()
                child.wait()

    def _start(self, name: str) -> None:
        self._restart_at[name] = 0.0
        self._started_at[name] = time.monotonic()
        # A group of its own: Ctrl-C reaches this process alone, which then stops them in order.
        child = subprocess.Popen(
            [sys.executable, "-m", "headrace", self._verbs[name], *self._options],
            env=self._environ,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=self._output,
            process_group=0,
        )
        self._children[name] = child
        if self._verbs[name] != "serve":
            os.setpriority(os.PRIO_PROCESS, child.pid, _BACKGROUND_NICENESS)
