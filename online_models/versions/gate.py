"""The gate: a version is served only if what it learnt are numbers, and nobody, guard or person, speaks against it."""

import logging
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from online_models.versions import checkpoints
from online_models.versions.checkpoints import DamagedCheckpoint, Manifest, State

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


def refusal_or(folder: Path, version: str, written: str) -> str:
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


_LEARNT = ("tower.", "picker.", "orderer.", "chances.")  # elsewhere what is no number may stand for nothing
_logger = logging.getLogger(__name__)


class Refused(ValueError):
    """A version that may not be served."""


def unsound(state: Mapping[str, np.ndarray]) -> str:
    """What is learnt by gradients and has become no number, "" if nothing has."""
    wrong = [
        name
        for name, array in state.items()
        if name.startswith(_LEARNT) and array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    return f"not finite: {', '.join(wrong)}" if wrong else ""


def refusal(folder: Path, version: str) -> str:
    """Why a version may not be served, "" if it may; FileNotFoundError or DamagedCheckpoint if it cannot be."""
    return refusal_or(folder, version, checkpoints.read_manifest(folder, version).refused)


def demand_served(folder: Path, version: str) -> None:
    """Refused if a version may not be served."""
    if reason := refusal(folder, version):
        raise Refused(f"version {version} is refused: {reason}; `headrace models accept {version}` lets it be served")


def refused(folder: Path) -> dict[str, str]:
    """The versions on disk that may not be served, with the reason; oldest first."""
    return {version: reason for version, reason in _judged(folder).items() if reason}


def newest(folder: Path) -> str | None:
    """The newest version that may be served."""
    return next((version for version, reason in reversed(_judged(folder).items()) if not reason), None)


def _judged(folder: Path) -> dict[str, str]:
    reasons = {}
    for version in checkpoints.versions_in(folder):
        with suppress(OSError, DamagedCheckpoint):
            reasons[version] = refusal(folder, version)
    return reasons


def load_newest(folder: Path, versions: Iterable[str] | None = None) -> tuple[Manifest, State] | None:
    """The newest version that may be served, or the first of `versions`; others are passed over loudly."""
    wrong = refused(folder)
    for version in reversed(checkpoints.versions_in(folder)) if versions is None else versions:
        if version in wrong:
            _logger.warning("version %s is refused: %s; the one before is used", version, wrong[version])
            continue
        try:
            return checkpoints.load(folder, version)
        except (DamagedCheckpoint, OSError) as error:
            _logger.error("%s; the one before is used", error)
    return None
