"""Create a backup of a running installation."""

import os
import shutil
from contextlib import closing
from pathlib import Path

from headrace.backup.checkpoint_files import CheckpointFiles, copy_files, list_files
from headrace.backup.manifest import BackupManifest, describe_files, write_manifest
from headrace.backup.places import CHECKPOINTS, LOG, STORE, find_folders
from online_models.versions import checkpoints
from stream.clock import Clock
from stream.config import Settings
from stream.local.snapshot import PinnedFiles, pin_files
from stream.topics import open_topics, topic_specs

_TOPIC_SUFFIX = ".topic.db"
EndOffsets = dict[str, dict[str, int]]


def create_backup(settings: Settings, folder: Path, clock: Clock) -> BackupManifest:
    """Copy log, user store and checkpoints as of one moment; the processes may run.

    The folder appears when the backup is complete. FileExistsError if it exists; OSError if the disk is too small.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists: name a new folder for the backup")
    folders = find_folders(settings)
    databases = [path for name in (LOG, STORE) if name in folders for path in sorted(folders[name].glob("*.db"))]
    if not databases and not folders[CHECKPOINTS].is_dir():
        raise FileNotFoundError(
            f"there is nothing to back up in {settings.data.folder.resolve()}: set HEADRACE_DATA__FOLDER to the folder "
            "of an installation"
        )
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        _check_space(partial, [*databases, folders[CHECKPOINTS]])
        with pin_files(databases, lambda: list_files(folders[CHECKPOINTS])) as (pinned, files):
            manifest = _copy(settings, clock, pinned, files, partial)
        write_manifest(partial, manifest)
        partial.rename(folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return manifest


def _copy(
    settings: Settings, clock: Clock, pinned: PinnedFiles, files: CheckpointFiles, target: Path
) -> BackupManifest:
    folders, now_ms = find_folders(settings), clock.now_ms()
    # A log on other machines is read after the checkpoints were listed: it is ahead of them, never behind.
    end_offsets = _read_pinned_ends(settings, pinned) if LOG in folders else _read_ends(settings, clock)
    for name in (LOG, STORE):
        (target / name).mkdir()
        for path in pinned.readers:
            if path.parent == folders.get(name):
                pinned.copy(path, target / name / path.name)
    versions = copy_files(folders[CHECKPOINTS], files, target / CHECKPOINTS)
    return BackupManifest(
        created=now_ms,
        code_version=checkpoints.code_version(),
        has_log=LOG in folders,
        has_store=STORE in folders,
        log_prefix=settings.log.prefix,
        store_prefix=settings.store.prefix,
        versions=versions,
        end_offsets=end_offsets,
        files=describe_files(target),
    )


def _read_pinned_ends(settings: Settings, pinned: PinnedFiles) -> EndOffsets:
    prefix, ends = settings.log.prefix, {}
    for path in pinned.readers:
        if path.name.endswith(_TOPIC_SUFFIX) and path.name.startswith(prefix):
            topic = path.name.removeprefix(prefix).removesuffix(_TOPIC_SUFFIX)
            rows = pinned.fetch_all(path, "SELECT partition, end FROM partitions")
            ends[topic] = {str(partition): end for partition, end in rows}
    return ends


def _read_ends(settings: Settings, clock: Clock) -> EndOffsets:
    with closing(open_topics(settings, clock)) as log:
        return {spec.topic: {str(p): end for p, end in log.end_offsets(spec.topic).items()} for spec in topic_specs()}


def _check_space(folder: Path, sources: list[Path]) -> None:
    """OSError if the disk of the backup is too small."""
    needed = sum(file.stat().st_size for source in sources for file in (source, *source.rglob("*")) if file.is_file())
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"the backup needs {needed / 1e9:.1f} GB, but {folder.parent} has {free / 1e9:.1f} GB free: choose another "
            "disk"
        )
