"""Conditions without which `headrace up` cannot start its processes."""

from pathlib import Path
from typing import IO

from headrace.ports import find_bind_error
from stream.config import Settings, variable_name
from stream.process.locks import acquire_lock


def claim_folder(folder: Path) -> IO[str]:
    """Lock a data folder until the returned file is closed; OSError if it is in use."""
    try:
        return acquire_lock(folder / "up.lock")
    except BlockingIOError as error:
        raise OSError(f"data folder {folder.resolve()} is in use by `headrace up`: {error.strerror}") from None


def check_free_ports(settings: Settings) -> None:
    """Raise an OSError that names the first port on which a process could not listen."""
    host = settings.serve.host
    for name, port in settings.listening_ports.items():
        if port and (problem := find_bind_error(host, port)):
            raise OSError(
                f"port {port} of {host} cannot be used ({problem}): stop the process that listens there, or set "
                f"{variable_name(name)} to a free port"
            )
