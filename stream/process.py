"""Lifecycle shared by all processes: logging, signals, metrics, locks."""

import contextlib
import errno
import fcntl
import logging
import os
import select
import signal
import threading
import time
import warnings
from pathlib import Path
from threading import Event as Signal
from typing import IO

from prometheus_client import start_http_server

_REPEAT_S = 1.0  # within which further signals belong to the same request
_logger = logging.getLogger(__name__)


def log_to_stderr(process: str) -> None:
    """Log one line per record to stderr, with the name of the process."""
    logging.basicConfig(
        level=logging.INFO,
        format=f"%(asctime)s {process:<6} %(levelname)-7s %(message)s",
        datefmt="%H:%M:%S",
        force=True,
    )
    # OpenBLAS now and then sets this flag for finite input (numpy issue 24067); rankers check their values themselves.
    warnings.filterwarnings("ignore", "invalid value encountered in matmul", RuntimeWarning)


class StopSignal(Signal):
    """An event that a signal handler can set at any time.

    `threading.Event.set` takes a lock. A handler that interrupts the owner of the lock, or another handler, would wait
    for it forever; this one writes to a pipe instead.
    """

    def __init__(self) -> None:
        super().__init__()
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


def stop_on_signals() -> Signal:
    """Return a signal that SIGTERM and SIGINT set; a second request ends the process at once.

    One request often arrives as several signals within a second, from a shell, a container runtime and a process group.
    """
    stop = StopSignal()
    requested_at: list[float] = []

    def request_stop(signum: int, frame: object) -> None:
        requested_at.append(time.monotonic())
        if requested_at[-1] - requested_at[0] > _REPEAT_S:
            os._exit(1)
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    return stop


def stop_with_parent(stop: Signal) -> None:
    """Set `stop` when the parent process ends."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        _logger.warning("the parent process has ended; stopping")
        stop.set()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def acquire_lock(path: Path) -> IO[str]:
    """Lock a folder for this process until the returned file is closed or the process ends.

    BlockingIOError, with the id of the other process, if another process holds the lock.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock_file = path.open("a+")
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.seek(0)
        message = f"process {lock_file.read() or 'unknown'} holds it: stop it, or use another HEADRACE_DATA__FOLDER"
        lock_file.close()
        raise BlockingIOError(errno.EWOULDBLOCK, message, str(path)) from None
    lock_file.truncate(0)
    lock_file.write(str(os.getpid()))
    lock_file.flush()
    return lock_file


def serve_metrics(port: int, setting: str) -> None:
    """Serve the metrics on a port of their own; 0 disables it."""
    if port == 0:
        return
    try:
        start_http_server(port)
    except OSError as error:
        raise OSError(f"metrics port {port} cannot be used ({error.strerror}); set {setting} to a free port") from None
