"""Conditions without which `headrace up` cannot start its processes."""

from pathlib import Path
from typing import IO

from stream.config import Settings, variable_name
from stream.process.locks import acquire_lock
from stream.process.sockets import bind


def claim_folder(folder: Path) -> IO[str]:
    """Lock a data folder until the returned file is closed; OSError if it is in use."""
    try:
        return acquire_lock(folder / "up.lock")
    except BlockingIOError as error:
        raise OSError(f"data folder {folder.resolve()} is in use by `headrace up`: {error.strerror}") from None


def check_free_ports(settings: Settings) -> None:
    """Raise an OSError that names the first port on which a process could not listen."""
    for name, port in settings.listening_ports.items():
        if port:
            bind(settings.serve.host, port, variable=variable_name(name)).close()
