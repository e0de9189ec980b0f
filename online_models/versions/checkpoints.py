"""All learnt state on disk under one name: written whole or not at all, checked when read."""

import hashlib
import importlib.metadata
import logging
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from safetensors.numpy import load_file, save_file

State = dict[str, np.ndarray]
_SCHEMA = 1
_IO_THREADS = 4  # files that are written or checked at once
_logger = logging.getLogger(__name__)


class Manifest(msgspec.Struct, kw_only=True):
    """What a checkpoint is and what made it."""

    version: str  # "<epoch>-<step>"
    epoch: int
    step: int
    parent: str | None
    created: int  # epoch ms
    schema: int = _SCHEMA
    code_version: str = ""
    example_offsets: dict[str, int]  # next offset of the examples topic, by partition
    offsets: dict[str, int]  # next offset of the events that taught it, by partition
    skip: dict[str, list[tuple[int, int]]] = {}  # offsets of events left out
    skip_impressions: dict[
        str, list[tuple[int, int]]
    ] = {}  # offsets of which slates and their answers alone are left out
    items_offset: int = 0  # next offset of the items topic
    control_offset: int = 0  # next offset of the control topic
    updates_offset: int = 0  # offset of model-updates from which a replica goes on
    watermark: int = 0
    open_alarm: str = ""  # id of the alarm that was open when it was written: no version for the guard to go back to
    blocked_reason: str = ""  # why it may not be served, as far as was known when it was written
    config: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    files: dict[str, str] = {}  # sha256 by file name


class DamagedCheckpoint(Exception):
    """A checkpoint that is incomplete or whose bytes are not those that were written."""


def version_name(epoch: int, step: int) -> str:
    """The version of a step.

    >>> version_name(123, 45678)
    '000123-000045678'
    """
    return f"{epoch:06d}-{step:09d}"


def save(folder: Path, manifest: Manifest, state: Mapping[str, np.ndarray]) -> None:
    """Write beside, fsync, rename: a reader sees the whole checkpoint or none.

    Each array is named "part.column"; every part is a file of its own, hashed while others are on their way to disk.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial_path = folder / f".{manifest.version}.{os.getpid()}"
    shutil.rmtree(partial_path, ignore_errors=True)
    partial_path.mkdir()
    parts: dict[str, State] = {}
    for name, array in state.items():
        part, _, column = name.rpartition(".")
        parts.setdefault(part, {})[column] = np.asarray(array, order="C")
    paths = {f"{part}.safetensors": columns for part, columns in sorted(parts.items())}
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        digests = pool.map(_write, (partial_path / name for name in paths), paths.values())
        manifest.files = dict(zip(paths, digests, strict=True))
    (partial_path / "manifest.json").write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    for path in (partial_path / "manifest.json", partial_path):
        _sync(path)
    shutil.rmtree(folder / manifest.version, ignore_errors=True)
    os.rename(partial_path, folder / manifest.version)
    _sync(folder)


def _write(path: Path, columns: State) -> str:
    """Write a part, durably; returns its digest."""
    save_file(columns, path)
    digest = _digest(path)
    _sync(path)
    return digest


def load(folder: Path, version: str) -> tuple[Manifest, State]:
    """A checkpoint's manifest and state; FileNotFoundError if there is none, DamagedCheckpoint if it is not whole."""
    manifest = check(folder, version)
    state = {}
    for name in manifest.files:
        part = name.removesuffix(".safetensors")
        for column, array in load_file(folder / version / name).items():
            state[f"{part}.{column}"] = array
    return manifest, state


def load_latest(folder: Path, versions: Iterable[str] | None = None) -> tuple[Manifest, State] | None:
    """The newest sound checkpoint; damaged ones are passed over loudly."""
    for version in reversed(list_version_names(folder)) if versions is None else versions:
        try:
            return load(folder, version)
        except (DamagedCheckpoint, OSError) as error:
            _logger.error("%s; the one before is used", error)
    return None


def check(folder: Path, version: str) -> Manifest:
    """The manifest of a sound checkpoint; FileNotFoundError or DamagedCheckpoint otherwise. Changes nothing."""
    manifest = read_manifest(folder, version)
    damage = _find_damage(folder / version, manifest)
    if damage:
        raise DamagedCheckpoint(f"checkpoint {version} is damaged: {damage}")
    return manifest


def code_version() -> str:
    """What made a checkpoint: the installed version of this code."""
    return importlib.metadata.version("headrace")


def read_manifest(folder: Path, version: str) -> Manifest:
    path = folder / version / "manifest.json"
    if not (folder / version).is_dir():
        raise FileNotFoundError(f"there is no checkpoint {version!r} in {folder}; `headrace models list` shows them")
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedCheckpoint(f"checkpoint {version} is damaged: manifest.json: {error}") from None
    if manifest.schema > _SCHEMA:
        raise DamagedCheckpoint(f"checkpoint {version} has schema {manifest.schema}; this code reads up to {_SCHEMA}")
    return manifest


def list_version_names(folder: Path) -> list[str]:
    """Versions on disk, oldest first, damaged ones too."""
    return sorted(path.name for path in folder.glob("[0-9]*-[0-9]*") if path.is_dir()) if folder.exists() else []


def creation_times(folder: Path) -> dict[str, int]:
    """When each version was made, ms; of a damaged one, when its folder was."""
    times = {}
    for version in list_version_names(folder):
        try:
            times[version] = read_manifest(folder, version).created
        except DamagedCheckpoint:
            times[version] = int((folder / version).stat().st_mtime * 1000)
    return times


def drop(folder: Path, version: str) -> None:
    """Remove a checkpoint; renamed first, so that no reader takes a half of it."""
    partial_path = folder / f".{version}.gone"
    try:
        os.rename(folder / version, partial_path)
    except FileNotFoundError:
        return
    shutil.rmtree(partial_path, ignore_errors=True)


def remove_partial(folder: Path) -> None:
    """Remove what a process that died was writing or dropping."""
    for path in folder.glob(".*"):
        shutil.rmtree(path, ignore_errors=True)


def _find_damage(path: Path, manifest: Manifest) -> str | None:
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        errors = pool.map(_file_error, (path / name for name in manifest.files), manifest.files.values())
        return next((error for error in errors if error), None)


def _file_error(path: Path, digest: str) -> str | None:
    try:
        return None if _digest(path) == digest else f"{path.name} is not what was written (sha256 differs)"
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
