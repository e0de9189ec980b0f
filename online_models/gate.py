"""The gate: a version is served only if what it learnt are numbers, and nobody, guard or person, speaks against it."""

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np

from online_models import checkpoints, marks
from online_models.checkpoints import DamagedCheckpoint, Manifest, State

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
    return marks.refusal(folder, version, checkpoints.read_manifest(folder, version).refused)


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
