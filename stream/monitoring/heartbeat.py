"""Heartbeats of a process: a metric, and a message to the supervisor that started it."""

import os
import socket
from contextlib import suppress

from stream import metrics


class Heartbeat:
    """Heartbeat of one process; until the first one, the metric is 0.

    The first one also reports the process as ready to the socket in `NOTIFY_SOCKET`, which `headrace up` and systemd
    set.
    """

    def __init__(self, process: str) -> None:
        self._gauge = metrics.heartbeat.labels(process)
        self._is_ready = False

    def beat(self) -> None:
        """Report that the main loop of the process has completed one more round."""
        self._gauge.set_to_current_time()
        if not self._is_ready:
            self._is_ready = True
            _notify_ready(os.environ.get("NOTIFY_SOCKET", ""))


def _notify_ready(address: str) -> None:
    """Send systemd's message of readiness; a supervisor that has ended misses nothing."""
    if address:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(f"READY=1\nMAINPID={os.getpid()}".encode(), address.replace("@", "\0", 1))
