"""Receive reports of readiness from child processes, by systemd's protocol `sd_notify`."""

import re
import socket
from contextlib import suppress

_PID = re.compile(rb"^MAINPID=(\d+)$", re.MULTILINE)


class ReadinessSocket:
    """Socket to which child processes report that they are ready."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")  # the kernel chooses an abstract name
        self._socket.setblocking(False)
        self._ready_pids: set[int] = set()

    @property
    def environ(self) -> dict[str, str]:
        """Environment of the child processes."""
        return {"NOTIFY_SOCKET": self._socket.getsockname().decode().replace("\0", "@", 1)}

    def is_ready(self, pid: int) -> bool:
        """Return True if the process has reported that it is ready."""
        with suppress(BlockingIOError):
            while message := self._socket.recv(4096):
                self._ready_pids |= {int(match) for match in _PID.findall(message)}
        return pid in self._ready_pids

    def close(self) -> None:
        self._socket.close()
