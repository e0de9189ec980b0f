"""Files of the checkpoint folder that belong to one moment."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from online_models.training import learner_identity
from online_models.versions import checkpoints
from online_models.versions.durable_files import write_file

JOURNAL, GATE = "journal", "gate"


@dataclass(frozen=True, slots=True)
class CheckpointFiles:
    """Versions, journal and overrides as of one moment.

    Versions never change. Journal files only grow, so that a size names their content; the newest, which a starting
    learner may shorten, and the small overrides are in memory.
    """

    versions: list[str]
    journal_sizes: dict[str, int]
    contents: dict[str, bytes]  # by path below the checkpoint folder


def list_files(folder: Path) -> CheckpointFiles:
    """List the files; it reads no large one."""
    journal = sorted((folder / JOURNAL).glob("*.jsonl"))
    small = [*journal[-1:], *(folder / GATE).glob("*.json"), *folder.glob(learner_identity.FILE_NAME)]
    return CheckpointFiles(
        versions=checkpoints.list_version_names(folder),
        journal_sizes={path.name: path.stat().st_size for path in journal[:-1]},
        contents={path.relative_to(folder).as_posix(): path.read_bytes() for path in small},
    )


def copy_files(folder: Path, files: CheckpointFiles, target: Path) -> list[str]:
    """Copy the files, newest version first; returns the versions.

    The learner may delete an old version, or the oldest part of the journal, meanwhile. FileNotFoundError if no version
    could be copied.
    """
    copied = [version for version in reversed(files.versions) if _copy_version(folder / version, target / version)]
    if files.versions and not copied:
        raise FileNotFoundError(f"all versions in {folder} were replaced during the copy: repeat the backup")
    for name, size in files.journal_sizes.items():
        _copy_start(folder / JOURNAL / name, size, target / JOURNAL / name)
    for name, content in files.contents.items():
        write_file(target / name, content)
    return sorted(copied)


def _copy_version(version: Path, target: Path) -> bool:
    try:
        shutil.copytree(version, target, copy_function=copy_file)
    except (FileNotFoundError, shutil.Error):
        if version.exists():
            raise
        shutil.rmtree(target, ignore_errors=True)
        return False
    return True


def _copy_start(path: Path, size: int, target: Path) -> None:
    try:
        with path.open("rb") as file:
            content = file.read(size)
    except FileNotFoundError:  # the learner has deleted it: nothing needs it any more
        return
    write_file(target, content)


def copy_file(source: str, target: str) -> str:
    """Copy a file durably."""
    shutil.copyfile(source, target)
    with Path(target).open("rb") as file:
        os.fsync(file.fileno())
    return target
