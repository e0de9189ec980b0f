"""The supervisor restarts what crashed, and gives up where a restart cannot help."""

import os
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread

import pytest

from headrace.supervisor import ProcessSupervisor, SupervisorSettings

BEAT = "from stream.monitoring.heartbeat import Heartbeat; Heartbeat('stream').beat()"
EXIT = "raise SystemExit({})"
DIE = "import os; os.kill(os.getpid(), 9)"
FAST = SupervisorSettings(backoff_s=(0.01, 0.02, 0.03))


def make_supervisor(monkeypatch: pytest.MonkeyPatch, *programs: str) -> ProcessSupervisor:
    """A supervisor whose processes run these programs, the last one from then on."""
    start, left = subprocess.Popen, list(programs)

    def run_program(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        program = left.pop(0) if len(left) > 1 else left[0]
        return start([sys.executable, "-c", program], env=options["env"], process_group=0)  # type: ignore[call-overload,no-any-return]

    monkeypatch.setattr("headrace.supervisor.subprocess.Popen", run_program)
    monkeypatch.setattr("headrace.supervisor.VERBS", ("stream",))
    return ProcessSupervisor(settings=FAST)


def restart_until_crash_looping(supervisor: ProcessSupervisor) -> None:
    deadline = time.monotonic() + 60
    while supervisor.crash_looping() is None and time.monotonic() < deadline:
        supervisor.restart_dead()
        time.sleep(0.01)


@pytest.mark.parametrize("exit_code", [1, 2])
def test_process_that_cannot_start_ends_the_supervisor(monkeypatch: pytest.MonkeyPatch, exit_code: int) -> None:
    with make_supervisor(monkeypatch, EXIT.format(exit_code)) as supervisor:
        supervisor.run(Event())

        assert supervisor.unable_to_start() == "stream"


def test_process_that_cannot_start_is_not_announced_as_restarting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with make_supervisor(monkeypatch, EXIT.format(1)) as supervisor:
        while supervisor.unable_to_start() is None:
            time.sleep(0.01)
        supervisor.restart_dead()

        assert caplog.text == ""


def test_settings_rejected_after_a_restart_end_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    with make_supervisor(monkeypatch, f"{BEAT}; {EXIT.format(1)}", EXIT.format(2)) as supervisor:
        supervisor.run(Event())

        assert supervisor.unable_to_start() == "stream"


@pytest.mark.parametrize(
    "program",
    [f"{BEAT}; {EXIT.format(1)}", DIE, EXIT.format(os.EX_TEMPFAIL)],
    ids=["ready before", "killed", "disk full at the first start"],
)
def test_process_that_crashed_is_restarted(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    with make_supervisor(monkeypatch, program) as supervisor:
        restart_until_crash_looping(supervisor)

        assert supervisor.crash_looping() == "stream"
        assert supervisor.unable_to_start() is None


def test_process_that_ran_well_may_fail_to_restart_for_a_while(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marker = tmp_path / "recovered"
    recover = f"{BEAT}; open({str(marker)!r}, 'w'); import time; time.sleep(60)"
    stop = Event()
    with make_supervisor(monkeypatch, f"{BEAT}; {DIE}", EXIT.format(1), EXIT.format(1), recover) as supervisor:
        thread = Thread(target=supervisor.run, args=(stop,))
        thread.start()
        deadline = time.monotonic() + 60
        while not marker.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join()

    assert marker.exists()
