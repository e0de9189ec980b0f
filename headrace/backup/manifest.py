"""Manifest of a backup: its files with their digests, and the offsets that belong to them."""

import hashlib
import os
from pathlib import Path

import msgspec

FILE_NAME = "manifest.json"
_SCHEMA = 1


class FileEntry(msgspec.Struct, frozen=True):
    """Size and digest of a file."""

    bytes: int
    sha256: str


class BackupManifest(msgspec.Struct, kw_only=True, frozen=True):
    """Content of a backup."""

    schema: int = _SCHEMA
    created: int  # ms
    code_version: str
    has_log: bool  # False: the log is outside this machine; only offsets are recorded
    has_store: bool
    log_prefix: str
    store_prefix: str
    versions: list[str]
    end_offsets: dict[str, dict[str, int]]  # of each topic, by partition
    files: dict[str, FileEntry]  # by path in the backup


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Size and digest of every file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): _describe(path) for path in paths}


def _describe(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


def write_manifest(folder: Path, manifest: BackupManifest) -> None:
    """Write the manifest durably; a folder without it is no backup."""
    with (folder / FILE_NAME).open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_manifest(folder: Path) -> BackupManifest:
    """Read a manifest; ValueError if the folder is no backup, or of a newer version."""
    try:
        manifest = msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=BackupManifest)
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(
            f"{folder} is no backup: it has no {FILE_NAME}. A plain copy of a running installation is torn; make the "
            "copy with `headrace backup FOLDER`"
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{folder / FILE_NAME} is damaged: {error}; use another backup") from None
    if manifest.schema > _SCHEMA:
        raise ValueError(f"{folder} has schema {manifest.schema}; expected up to {_SCHEMA}: install a newer Headrace")
    return manifest


def check_files(folder: Path, manifest: BackupManifest) -> None:
    """ValueError if a file of the backup is missing or differs from the one that was written."""
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file():
            raise ValueError(f"backup {folder} lacks the file {name}: use another backup")
        if _describe(path) != entry:
            raise ValueError(f"backup {folder} is damaged: {name} differs from the file that was written (sha256)")
