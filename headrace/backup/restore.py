"""Restore a backup into an installation that is stopped and empty."""

import os
import shutil
from contextlib import closing
from pathlib import Path

from headrace.backup.checkpoint_files import copy_file
from headrace.backup.manifest import BackupManifest, check_files, read_manifest
from headrace.backup.places import CHECKPOINTS, LOG, STORE, find_folders
from stream.clock import SystemClock
from stream.config import Settings
from stream.logs import EventLog
from stream.process.locks import acquire_lock
from stream.topics import MODEL_UPDATES, open_topics

_LOCK = "learn.lock"


def restore_backup(settings: Settings, folder: Path) -> BackupManifest:
    """Copy a backup to the places that the settings name.

    1. check every file of the backup, and that nothing would be overwritten
    2. copy beside the final places, durably
    3. rename

    ValueError if the backup is damaged, does not fit the settings, or needs records that the log no longer has;
    FileExistsError if a place is in use; BlockingIOError if a learner runs.
    """
    manifest = read_manifest(folder)
    folders = find_folders(settings)
    _check_settings(settings, manifest, folders)
    check_files(folder, manifest)
    for name in folders:
        _check_empty(folders[name])
    with acquire_lock(folders[CHECKPOINTS] / _LOCK):
        if not manifest.has_log:
            _check_log(settings, manifest)
        staged = {name: _stage(folder / name, folders[name]) for name in folders}
        for name, path in staged.items():
            _move(path, folders[name])
    return manifest


def _check_settings(settings: Settings, manifest: BackupManifest, folders: dict[str, Path]) -> None:
    for name, is_included, setting in ((LOG, manifest.has_log, "log"), (STORE, manifest.has_store, "store")):
        if is_included != (name in folders):
            kind = "embedded" if is_included else "on other machines"
            raise ValueError(f"the backup is of an installation whose {setting} is {kind}: set {setting}.url as it was")
    for setting, prefix in (("log.prefix", manifest.log_prefix), ("store.prefix", manifest.store_prefix)):
        section, name = setting.split(".")
        if (actual := getattr(getattr(settings, section), name)) != prefix:
            raise ValueError(f"{setting} is {actual!r}; the backup was made with {prefix!r}: set it as it was")


def _check_empty(folder: Path) -> None:
    if folder.exists() and any(path.name != _LOCK for path in folder.iterdir()):
        raise FileExistsError(
            f"{folder} is not empty, and restore overwrites nothing: move it away, or set HEADRACE_DATA__FOLDER to a "
            "new folder"
        )


def _check_log(settings: Settings, manifest: BackupManifest) -> None:
    """Check that a log on other machines holds what the checkpoints were trained on.

    Model updates that were published since the backup belong to a state that is gone: they are deleted.
    """
    with closing(open_topics(settings, SystemClock())) as log:
        for topic, ends in manifest.end_offsets.items():
            _check_ends(log, topic, ends)
        log.trim(MODEL_UPDATES, 0, log.end_offset(MODEL_UPDATES, 0))


def _check_ends(log: EventLog, topic: str, ends: dict[str, int]) -> None:
    actual = log.end_offsets(topic)
    for partition, end in ends.items():
        if actual.get(int(partition), 0) < end:
            raise ValueError(
                f"the backup continues at offset {end} of {topic} partition {partition}, but the log ends at "
                f"{actual.get(int(partition), 0)}: restore the log first, to that offset or a later one"
            )


def _stage(source: Path, target: Path) -> Path:
    """Copy a folder beside its final place; an absent one is empty."""
    staged = target.with_name(f".{target.name}.{os.getpid()}.restore")
    shutil.rmtree(staged, ignore_errors=True)
    if source.is_dir():
        shutil.copytree(source, staged, copy_function=copy_file)
    else:
        staged.mkdir(parents=True)
    return staged


def _move(staged: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in staged.iterdir():
        path.rename(target / path.name)
    staged.rmdir()
