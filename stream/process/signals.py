"""Signals that end a process: SIGTERM, SIGINT, SIGHUP, and the end of its parent."""

import atexit
import contextlib
import logging
import os
import select
import signal
import threading
import time
from collections.abc import Sequence
from threading import Event as Signal

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_REPEAT_S = 1.0  # within which further signals belong to the same request
_COPY_BYTES = 1 << 16
_logger = logging.getLogger(__name__)


class StopSignal(Signal):
    """An event that a signal handler can set at any time.

    `threading.Event.set` takes a lock. A handler that interrupts the owner of the lock, or another handler, would wait
    for it forever; this one writes to a pipe instead.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0  # of the first signal
        self._is_requested = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def is_set(self) -> bool:
        return self._is_requested

    def set(self) -> None:
        self._is_requested = True
        with contextlib.suppress(BlockingIOError):  # full: the waiting threads are awake already
            os.write(self._writer, b"\0")

    def wait(self, timeout: float | None = None) -> bool:
        if not self._is_requested:
            select.select([self._reader], [], [], timeout)
        return self._is_requested


def stop_on_signals() -> StopSignal:
    """Return a signal that SIGTERM, SIGINT and SIGHUP set; a second request ends the process.

    One request often arrives as several signals within a second, from a shell, a container runtime and a process group.
    A terminal that closes sends SIGHUP. A signal stays ignored where the parent ignores it, as `nohup` does.
    """
    stop = StopSignal()
    requested_at: list[float] = []

    def request_stop(signum: int, frame: object) -> None:
        requested_at.append(time.monotonic())
        if requested_at[-1] - requested_at[0] > _REPEAT_S:
            os._exit(1)
        stop.number = stop.number or signum
        stop.set()

    signals = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in signals:
        signal.signal(number, request_stop)
    atexit.register(_ignore, signals)
    return stop


def end_input_on_signals() -> None:
    """Make standard input end at the first signal that has a handler.

    A thread copies it into a pipe. A handler would run too late: the main thread waits for the next bytes.
    """
    source = os.dup(0)
    reader, writer = os.pipe()
    signal_reader, signal_writer = os.pipe()
    os.dup2(reader, 0)
    os.set_blocking(signal_writer, False)
    signal.set_wakeup_fd(signal_writer, warn_on_full_buffer=False)

    def copy() -> None:
        while signal_reader not in select.select([source, signal_reader], [], [])[0]:
            if not (data := os.read(source, _COPY_BYTES)):
                break
            os.write(writer, data)
        os.close(writer)

    threading.Thread(target=copy, name="standard input", daemon=True).start()


def _ignore(signals: Sequence[signal.Signals]) -> None:
    """Ignore signals while the interpreter ends: their default would change the exit code."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


def stop_with_parent(stop: Signal) -> None:
    """Set `stop` when the parent process ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        _logger.warning("the parent process has ended; stopping")
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()
