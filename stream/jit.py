"""Compile sequential kernels with numba, and cache them on disk."""

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

Result = TypeVar("Result")
Columns = TypeVar("Columns", bound=tuple[Any, ...])

_ROOT = Path(__file__).resolve().parent.parent
_MAX_CACHE_AGE = 30 * 86_400.0  # seconds
_IMPORT = re.compile(rb"^from ([a-z_.0-9]+) import", re.MULTILINE)
# Two processes that compile a kernel for different types at the same time must not write the same file.
_WRITER_ID = uuid.uuid4().hex[:12]


@cache
def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@cache
def _hash_sources(path: Path) -> str:
    """Hash of a file and of everything that it imports from this project.

    A compiled kernel holds the code of the kernels that it calls and the values of the constants that it names, from
    any file; numba itself notices changes of the kernel's own file only.
    """
    pending, sources = [path], {}
    while pending:
        current = pending.pop()
        if current in sources or (source := _read(current)) is None:
            continue
        sources[current] = source
        pending += [_ROOT / (module.decode().replace(".", "/") + ".py") for module in _IMPORT.findall(source)]
    return hashlib.sha256(b"".join(sources[found] for found in sorted(sources))).hexdigest()[:16]


def cache_root() -> Path:
    """Folder that holds one folder of compiled kernels per state of the sources."""
    root = os.environ.get("NUMBA_CACHE_DIR")
    return Path(root) if root else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "headrace"


def _cache_folder(path: Path) -> Path:
    suffix = "-checked" if numba.config.BOUNDSCHECK else ""  # type: ignore[attr-defined]
    return cache_root() / f"kernels-{_hash_sources(path)}{suffix}"


@cache
def _open_cache_folder(path: Path) -> Path:
    """The cache folder of a source file, marked as used today."""
    folder = _cache_folder(path)
    with contextlib.suppress(OSError):  # not writable: numba falls back to another place
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _delete_unused(folder.parent)
    return folder


@cache
def _delete_unused(root: Path) -> None:
    """Delete the kernels of sources that no process has used for a month; once per process."""
    folders = {folder: folder.stat().st_mtime for folder in root.glob("kernels-*")}
    for folder, used_at in folders.items():
        if used_at < max(folders.values()) - _MAX_CACHE_AGE:
            shutil.rmtree(folder, ignore_errors=True)


def _compile(function: Callable[..., Result], fastmath: set[str] | bool = False) -> Callable[..., Result]:
    path = Path(function.__code__.co_filename).resolve()
    folder = _open_cache_folder(path)
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    dispatcher: Any = numba.njit(cache=True, error_model="numpy", fastmath=fastmath)(function)
    kernel_cache = dispatcher._cache
    files = kernel_cache._cache_file
    files._data_name_pattern = files._data_name_pattern.replace("{number", _WRITER_ID + ".{number")
    if Path(files._cache_path).is_relative_to(folder):
        # The folder's name identifies the sources, wherever they are and whenever they were copied.
        kernel_cache._cache_path = files._cache_path = str(folder)
        files._index_path, files._source_stamp = str(folder / files._index_name), folder.name
    compiled: Callable[..., Result] = dispatcher
    return compiled


def kernel(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile `function` for one core: no Python objects inside, deterministic bits.

    It keeps the interpreter's lock: most kernels run for microseconds, and a thread that releases it waits long.
    """
    return _compile(function)


def as_tuple(columns: Columns) -> Columns:
    """Return a NamedTuple of arrays as a plain tuple, for kernels that run once per request.

    A kernel takes a plain tuple about 2 µs faster, and unpacks it in the order of the fields; attributes are lost.
    """
    return tuple(columns)  # type: ignore[return-value]


def fastmath_kernel(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile like `kernel`, but let sums run in vector lanes, in another order than written.

    Dot products run twice as fast; the same input gives the same bits on the same kind of processor only.
    """
    return _compile(function, fastmath={"reassoc", "nsz"})
