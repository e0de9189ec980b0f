"""Lifecycle shared by all processes."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from stream.process import StopSignal, acquire_lock

WAITING_SCRIPT = """
from stream.process import stop_on_signals
stop = stop_on_signals()
print("ready", flush=True)
while not stop.wait(0.0001):
    pass
print("stopped", flush=True)
"""


def test_lock_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "learn.lock"
    with acquire_lock(path), pytest.raises(BlockingIOError, match=r"process \d+ holds it: stop it.*learn\.lock"):
        acquire_lock(path)

    acquire_lock(path).close()


def test_signals_in_quick_succession_stop_the_process() -> None:
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WAITING_SCRIPT], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGTERM, signal.SIGINT) * 25:
                process.send_signal(number)
            output, _ = process.communicate(timeout=20)

            assert (process.returncode, output) == (0, "stopped\n")


def test_stop_signal_wakes_all_waiting_threads() -> None:
    stop = StopSignal()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()

    assert not stop.wait(0.01)

    stop.set()
    for thread in threads:
        thread.join(timeout=10)

    assert not any(thread.is_alive() for thread in threads)
    assert stop.is_set()
