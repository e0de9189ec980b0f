"""The supervisor restarts what crashed, and gives up where a restart cannot help."""

import subprocess
import sys
import time
from threading import Event

import pytest

from headrace.supervisor import ProcessSupervisor


def make_supervisor(monkeypatch: pytest.MonkeyPatch, exit_code: int) -> ProcessSupervisor:
    """A supervisor whose processes end at once with this exit code."""
    start = subprocess.Popen

    def end_at_once(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", f"raise SystemExit({exit_code})"])

    monkeypatch.setattr("headrace.supervisor.subprocess.Popen", end_at_once)
    return ProcessSupervisor()


def test_wrong_settings_end_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_supervisor(monkeypatch, exit_code=2) as supervisor:
        started = time.monotonic()
        supervisor.run(Event())

        assert supervisor.misconfigured() is not None
        assert time.monotonic() - started < 60


def test_crashed_process_is_restarted(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_supervisor(monkeypatch, exit_code=1) as supervisor:
        deadline = time.monotonic() + 60
        while supervisor.crash_looping() is None and time.monotonic() < deadline:
            supervisor.restart_dead()
            time.sleep(0.01)

        assert supervisor.misconfigured() is None
        assert supervisor.crash_looping() is not None
