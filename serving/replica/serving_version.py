"""Find the version that serves, from the files of the checkpoint folder."""

from pathlib import Path

from online_models.training import journal
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import DamagedCheckpoint, version_name


def find_serving_version(folder: Path, state: str = "") -> str:
    """Newest valid version that the serving state includes; "" without one.

    `state`: name of the state that a running replica serves, which is often some steps ahead of this version. Without
    it: the state of a replica that starts now.
    """
    return _find_included(folder, state) if state else _find_at_start(folder)


def _find_included(folder: Path, state: str) -> str:
    epoch, _, step = state.partition("-")
    path = journal.epoch_path(folder / "journal", int(epoch), int(step))
    for version in reversed(checkpoints.list_version_names(folder)):
        if any(segment.contains(version) for segment in path) and _is_valid(folder, version):
            return version
    return ""


def _find_at_start(folder: Path) -> str:
    """Newest valid version that may serve, or the target of a later rollback."""
    newest, epoch = _find_newest(folder), journal.newest_epoch(folder / "journal")
    _, *ancestors = journal.epoch_path(folder / "journal", epoch)
    if ancestors and f"{epoch:06d}" > newest.partition("-")[0]:
        return version_name(ancestors[0].epoch, ancestors[0].last_step or 0)
    return newest


def _find_newest(folder: Path) -> str:
    blocked = gate.list_blocked(folder)
    for version in reversed(checkpoints.list_version_names(folder)):
        if version not in blocked and _is_valid(folder, version):
            return version
    return ""


def _is_valid(folder: Path, version: str) -> bool:
    try:
        checkpoints.check(folder, version)
    except (OSError, DamagedCheckpoint):
        return False
    return True
