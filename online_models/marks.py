"""Marks on versions: which of them may be served was decided after they were written, by the guard or by a person."""

import os
from pathlib import Path

import msgspec

_FOLDER = "gate"


class Mark(msgspec.Struct, frozen=True):
    """Counts for more than what the version's own manifest says."""

    refused: str  # why it may not be served, "" if it may


def mark(folder: Path, version: str, refused: str) -> None:
    """Say why a version may not be served from now on, or with "" that it may. Durable when this returns."""
    path = _path(folder, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    _forget_gone(folder)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with beside.open("wb") as file:
        file.write(msgspec.json.encode(Mark(refused)))
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def refusal(folder: Path, version: str, written: str) -> str:
    """Why a version may not be served, "" if it may; `written` is what its manifest says of that."""
    try:
        return msgspec.json.decode(_path(folder, version).read_bytes(), type=Mark).refused
    except FileNotFoundError:
        return written


def _path(folder: Path, version: str) -> Path:
    return folder / _FOLDER / f"{version}.json"


def _forget_gone(folder: Path) -> None:
    for path in (folder / _FOLDER).glob("[0-9]*.json"):
        if not (folder / path.stem).exists():
            path.unlink(missing_ok=True)
