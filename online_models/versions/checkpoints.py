"""Checkpoints: all trained state on disk, written whole or not at all, verified when read."""

import hashlib
import importlib.metadata
import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import load_file, save_file

from stream.process.errors import describe_error
from stream.process.folders import make_folder

State = dict[str, np.ndarray]
_SCHEMA = 1
_VERSION_PATTERN = re.compile(r"[0-9]+-[0-9]+", re.ASCII)
_IO_THREADS = 4  # files written or verified at once
_logger = logging.getLogger(__name__)


class Manifest(msgspec.Struct, kw_only=True):
    """Identity of a checkpoint, the offsets it covers, and its files."""

    version: str  # "<epoch>-<step>"
    epoch: int
    step: int
    parent: str | None
    created: int  # epoch ms
    schema: int = _SCHEMA
    code_version: str = ""
    example_offsets: dict[str, int]  # next offset of the examples topic, by partition
    offsets: dict[str, int]  # next offset of the events that it was trained on, by partition
    skip: dict[str, list[tuple[int, int]]] = {}  # excluded event offsets, by partition
    # Offsets of which only impressions, and the actions on them, are excluded.
    skip_impressions: dict[str, list[tuple[int, int]]] = {}
    items_offset: int = 0  # next offset of the items topic
    control_offset: int = 0  # next offset of the control topic
    updates_offset: int = 0  # first offset of model-updates that a replica has to apply
    examples_topic: str = ""  # id of the examples topic
    watermark: int = 0
    open_alarm: str = ""  # id of the alarm open at the time of writing: the guard does not roll back to this version
    blocked_reason: str = ""  # "" if it may be served, as of writing; see `gate.apply_override`
    config: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    files: dict[str, str] = {}  # sha256 by file name


class DamagedCheckpoint(Exception):
    """Raised for a checkpoint that is incomplete, or whose bytes differ from those written."""


def version_name(epoch: int, step: int) -> str:
    """Name of the version at a step.

    >>> version_name(123, 45678)
    '000123-000045678'
    """
    return f"{epoch:06d}-{step:09d}"


def save(folder: Path, manifest: Manifest, state: Mapping[str, np.ndarray]) -> None:
    """Write to a temporary folder, fsync, rename: a reader sees the whole checkpoint or none.

    Each array is named "part.column"; each part is one file, hashed while others are being written.
    """
    make_folder(folder)
    partial_path = folder / f".{manifest.version}.{os.getpid()}"
    shutil.rmtree(partial_path, ignore_errors=True)
    try:
        partial_path.mkdir()
        _write_parts(partial_path, manifest, state)
        shutil.rmtree(folder / manifest.version, ignore_errors=True)
        os.rename(partial_path, folder / manifest.version)
    except BaseException:
        shutil.rmtree(partial_path, ignore_errors=True)  # on a full disk, it would take the space of the next one
        raise
    _sync(folder)


def _write_parts(folder: Path, manifest: Manifest, state: Mapping[str, np.ndarray]) -> None:
    parts: dict[str, State] = {}
    for name, array in state.items():
        part, _, column = name.rpartition(".")
        parts.setdefault(part, {})[column] = np.asarray(array, order="C")
    paths = {f"{part}.safetensors": columns for part, columns in sorted(parts.items())}
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        digests = pool.map(_write, (folder / name for name in paths), paths.values())
        manifest.files = dict(zip(paths, digests, strict=True))
    (folder / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    for path in (folder / "manifest.json", folder):
        _sync(path)


def _write(path: Path, columns: State) -> str:
    """Write a part durably; returns its digest."""
    save_file(columns, path)
    digest = _digest(path)
    _sync(path)
    return digest


def load(folder: Path, version: str) -> tuple[Manifest, State]:
    """Manifest and state of a checkpoint; raise FileNotFoundError or DamagedCheckpoint."""
    manifest = check(folder, version)
    state = {}
    for name in manifest.files:
        part = name.removesuffix(".safetensors")
        for column, array in load_file(folder / version / name).items():
            state[f"{part}.{column}"] = array
    return manifest, state


def load_latest(folder: Path, versions: Iterable[str] | None = None) -> tuple[Manifest, State] | None:
    """Load the newest valid checkpoint, or the first of `versions`; log those that are skipped."""
    for version in reversed(list_version_names(folder)) if versions is None else versions:
        try:
            return load(folder, version)
        except (DamagedCheckpoint, OSError) as error:
            _logger.error("%s; using the checkpoint before it", describe_error(error))
    return None


def check(folder: Path, version: str) -> Manifest:
    """Verify a checkpoint and return its manifest; raise FileNotFoundError or DamagedCheckpoint."""
    manifest = read_manifest(folder, version)
    if damage := find_damage(folder / version, manifest):
        raise DamagedCheckpoint(f"checkpoint {version} is damaged: {damage}")
    return manifest


def code_version() -> str:
    """Installed version of this code."""
    return importlib.metadata.version("headrace")


def read_manifest(folder: Path, version: str) -> Manifest:
    """Read a manifest; FileNotFoundError for an unknown version, ValueError for another text."""
    if not _VERSION_PATTERN.fullmatch(version):
        raise ValueError(
            f"version {version[:100]!r} is invalid; expected EPOCH-STEP, such as 000001-000000042; "
            "`headrace models list` shows all"
        )
    path = folder / version / "manifest.json"
    if not (folder / version).is_dir():
        raise FileNotFoundError(f"there is no checkpoint {version!r} in {folder}; `headrace models list` shows all")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedCheckpoint(f"checkpoint {version} is damaged: manifest.json: {describe_error(error)}") from None
    if manifest.schema > _SCHEMA:
        raise DamagedCheckpoint(f"checkpoint {version} has schema {manifest.schema}; this code reads up to {_SCHEMA}")
    return manifest


def list_version_names(folder: Path) -> list[str]:
    """Versions on disk, oldest first, including damaged ones."""
    paths = folder.iterdir() if folder.exists() else ()
    return sorted(path.name for path in paths if _VERSION_PATTERN.fullmatch(path.name) and path.is_dir())


def creation_times(folder: Path) -> dict[str, int]:
    """Creation time of each version, ms; of a damaged one, the modification time of its folder."""
    times = {}
    for version in list_version_names(folder):
        try:
            times[version] = read_manifest(folder, version).created
        except DamagedCheckpoint:
            times[version] = int((folder / version).stat().st_mtime * 1000)
    return times


def drop(folder: Path, version: str) -> None:
    """Delete a checkpoint; renamed first, so that no reader sees half of it."""
    partial_path = folder / f".{version}.gone"
    try:
        os.rename(folder / version, partial_path)
    except FileNotFoundError:
        return
    shutil.rmtree(partial_path, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Delete folders that a dead process was writing or deleting."""
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def find_damage(path: Path, manifest: Manifest) -> str | None:
    """First file that is missing or differs from its digest; None if all are valid."""
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        errors = pool.map(_file_error, (path / name for name in manifest.files), manifest.files.values())
        return next((error for error in errors if error), None)


def _file_error(path: Path, digest: str) -> str | None:
    try:
        return None if _digest(path) == digest else f"{path.name} differs from the file that was written (sha256)"
    except OSError as error:
        return f"{path.name}: {error.strerror}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
