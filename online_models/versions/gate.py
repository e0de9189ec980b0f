"""Decide if a version may serve: finite, and blocked by neither guard nor operator."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from online_models.versions import checkpoints
from online_models.versions.checkpoints import DamagedCheckpoint, Manifest, State
from online_models.versions.durable_files import write_file
from stream.process.errors import describe_error

_FOLDER = "gate"
_logger = logging.getLogger(__name__)


class VersionBlocked(ValueError):
    """Raised for a version that may not be served."""


class ServingOverride(msgspec.Struct, frozen=True):
    """A decision that replaces the one in the manifest of the version."""

    blocked_reason: str  # "" if the version may be served


def override(folder: Path, version: str, blocked_reason: str) -> None:
    """Block a version for this reason, or approve it by "". Durable when this returns."""
    _remove_stale(folder)
    write_file(_path(folder, version), msgspec.json.encode(ServingOverride(blocked_reason)))


def apply_override(folder: Path, version: str, manifest_reason: str) -> str:
    """Reason that blocks a version, "" if it may be served: the manifest's, unless overridden."""
    try:
        return msgspec.json.decode(_path(folder, version).read_bytes(), type=ServingOverride).blocked_reason
    except FileNotFoundError:
        return manifest_reason


def _path(folder: Path, version: str) -> Path:
    return folder / _FOLDER / f"{version}.json"


def _remove_stale(folder: Path) -> None:
    for path in (folder / _FOLDER).glob("[0-9]*.json"):
        if not (folder / path.stem).exists():
            path.unlink(missing_ok=True)


def describe_non_finite(state: Mapping[str, np.ndarray], trained_parts: Iterable[str]) -> str:
    """Name the trained arrays that hold NaN or infinity; "" if there are none.

    Other parts may use infinity as a value.
    """
    prefixes = tuple(f"{part}." for part in trained_parts)
    non_finite = [
        name
        for name, array in state.items()
        if name.startswith(prefixes) and array.dtype.kind == "f" and not np.isfinite(array).all()
    ]
    return f"not finite: {', '.join(non_finite)}" if non_finite else ""


def read_block_reason(folder: Path, version: str) -> str:
    """Reason that blocks a version, "" if it may be served.

    Raises FileNotFoundError or DamagedCheckpoint if it cannot be read.
    """
    return apply_override(folder, version, checkpoints.read_manifest(folder, version).blocked_reason)


def check_servable(folder: Path, version: str) -> None:
    """Raise VersionBlocked if a version may not be served."""
    if reason := read_block_reason(folder, version):
        raise VersionBlocked(
            f"version {version} is blocked: {reason}; `headrace models approve {version}` lets it be served"
        )


def list_blocked(folder: Path) -> dict[str, str]:
    """The versions on disk that may not be served, with their reasons; oldest first."""
    return {version: reason for version, reason in _read_block_reasons(folder).items() if reason}


def find_newest_servable(folder: Path) -> str | None:
    """The newest version that may be served."""
    return next((version for version, reason in reversed(_read_block_reasons(folder).items()) if not reason), None)


def _read_block_reasons(folder: Path) -> dict[str, str]:
    reasons = {}
    for version in checkpoints.list_version_names(folder):
        with suppress(OSError, DamagedCheckpoint):
            reasons[version] = read_block_reason(folder, version)
    return reasons


def load_newest(folder: Path, versions: Iterable[str] | None = None) -> tuple[Manifest, State] | None:
    """Load the newest servable version, or the first of `versions`; log those skipped."""
    blocked = list_blocked(folder)
    for version in reversed(checkpoints.list_version_names(folder)) if versions is None else versions:
        if version in blocked:
            _logger.warning("version %s is blocked: %s; using the version before it", version, blocked[version])
            continue
        try:
            return checkpoints.load(folder, version)
        except (DamagedCheckpoint, OSError) as error:
            _logger.error("%s; using the version before it", describe_error(error))
    return None
