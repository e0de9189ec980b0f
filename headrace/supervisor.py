"""Start, restart and stop the processes of one machine together."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event as Signal
from types import TracebackType
from typing import IO, Self

from headrace.readiness import ReadinessSocket

VERBS = ("stream", "learn", "serve")
_DISK_FULL = os.EX_TEMPFAIL  # exit code: a restart helps once there is space
_WRONG_USAGE = 2  # exit code: the process rejects its settings, and a restart cannot help
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupervisorSettings:
    """Restart and stop times, in seconds."""

    stop_timeout_s: float = 8.0  # before a process that does not stop is killed
    backoff_s: tuple[float, ...] = (0.2, 0.5, 1.0, 2.0, 5.0)  # before a restart, by consecutive crashes
    stable_after_s: float = 5.0  # a longer run resets the crash count
    background_niceness: int = 5  # of stream and learn, so that responses come first where cores are few


class ProcessSupervisor:
    """Run the processes inside a `with` block; all of them have ended after it."""

    def __init__(
        self,
        config: Path | None = None,
        environ: Mapping[str, str] | None = None,
        output: IO[bytes] | None = None,
        servers: int = 1,
        settings: SupervisorSettings | None = None,
    ) -> None:
        self._settings = settings or SupervisorSettings()
        self._options = ["--child"] if config is None else ["--child", "--config", str(config)]
        self._readiness = ReadinessSocket()
        self._environ = {**os.environ, **(environ or {}), **self._readiness.environ}
        self._output = output  # of the children; None inherits this process's output
        # Verb by process name; every further `serve` process has its number in the name.
        self._verbs = {verb: verb for verb in VERBS} | {f"serve {n}": "serve" for n in range(2, servers + 1)}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._has_run = dict.fromkeys(self._verbs, False)  # True once the process was ready
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
        """Restart processes that die, until `stop` is set or one of them cannot start."""
        while not self.unable_to_start() and not stop.wait(0.1):
            self.restart_dead()

    def unable_to_start(self) -> str | None:
        """Name of a process that a restart does not help; None if there is none.

        It rejected its settings, or it ended with an error before it was ever ready. A process that a signal killed,
        that was ready before, or that a full disk has stopped, is restarted.
        """
        return next((name for name, child in self._children.items() if self._cannot_start(name, child)), None)

    def _cannot_start(self, name: str, child: subprocess.Popen[bytes]) -> bool:
        exit_code = child.poll()  # before its message is read, which it sent earlier
        self._has_run[name] |= self._readiness.is_ready(child.pid)
        if exit_code in (None, _DISK_FULL):
            return False
        return exit_code == _WRONG_USAGE or (exit_code > 0 and not self._has_run[name])

    def restart_dead(self) -> None:
        """Restart each process that has died, with a longer delay after every consecutive crash."""
        now = time.monotonic()
        for name, child in self._children.items():
            if child.poll() is not None and not self._restart_at[name] and not self._cannot_start(name, child):
                delay = self._count_crash(name, now)
                self._restart_at[name] = now + delay
                _logger.error("%s died with exit code %s; restarting it in %.1f s", name, child.returncode, delay)
        for name, restart_at in self._restart_at.items():
            if restart_at and now >= restart_at:
                self._start(name)

    def _count_crash(self, name: str, now: float) -> float:
        """Count a crash and return the seconds before the restart."""
        is_stable = now - self._started_at[name] > self._settings.stable_after_s
        self._crash_counts[name] = 1 if is_stable else self._crash_counts[name] + 1
        delays = self._settings.backoff_s
        return delays[min(self._crash_counts[name], len(delays)) - 1]

    def crash_looping(self) -> str | None:
        """Name of a process that dies every time it is started; None if there is none."""
        limit = len(self._settings.backoff_s)
        return self.unable_to_start() or next(
            (name for name, crashes in self._crash_counts.items() if crashes >= limit), None
        )

    def stop(self) -> None:
        """Send SIGTERM to all processes; kill those that do not stop in time."""
        for child in self._children.values():
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
        timeout = self._settings.stop_timeout_s
        deadline = time.monotonic() + timeout
        for name, child in self._children.items():
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _logger.error("%s did not stop within %.0f s and was killed", name, timeout)
                child.kill()
                child.wait()
        self._readiness.close()

    def _start(self, name: str) -> None:
        self._restart_at[name] = 0.0
        self._started_at[name] = time.monotonic()
        # A process group of its own: Ctrl-C reaches only this process, which then stops the children.
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
            os.setpriority(os.PRIO_PROCESS, child.pid, self._settings.background_niceness)
