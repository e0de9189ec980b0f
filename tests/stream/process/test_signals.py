"""Signals end a process in an orderly way."""

import signal
import subprocess
import sys
import threading

import pytest

from stream.process.signals import StopSignal

WAITING_SCRIPT = """
from stream.process.signals import stop_on_signals
stop = stop_on_signals()
print("ready", flush=True)
while not stop.wait(0.0001):
    pass
print("stopped", flush=True)
"""


def test_signals_in_quick_succession_stop_the_process() -> None:
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", WAITING_SCRIPT], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            for number in (signal.SIGTERM, signal.SIGINT) * 25:
                process.send_signal(number)
            output, _ = process.communicate(timeout=20)

            assert (process.returncode, output) == (0, "stopped\n")


def test_standard_input_ends_with_the_signal() -> None:
    script = WAITING_SCRIPT.partition("while")[0] + (
        "from stream.process.signals import end_input_on_signals\n"
        "import sys\n"
        "end_input_on_signals()\n"
        "print(sys.stdin.readline(), flush=True)\n"
        "print(repr(sys.stdin.read()), stop.number, flush=True)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.stdin.write("first\n")
        process.stdin.flush()
        assert process.stdout.readline() == "first\n"
        process.send_signal(signal.SIGTERM)

        assert process.stdout.read().split() == ["''", "15"]


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


def test_closed_terminal_stops_the_process() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING_SCRIPT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        output, _ = process.communicate(timeout=20)

        assert (process.returncode, output) == (0, "stopped\n")


def test_nohup_survives_a_closed_terminal() -> None:
    command = ["nohup", sys.executable, "-c", WAITING_SCRIPT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.3)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=20)

        assert (process.returncode, output) == (0, "stopped\n")
