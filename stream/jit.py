"""The one door to numba: sequential kernels, compiled once and kept on disk."""

import contextlib
import hashlib
import os
import re
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba

Result = TypeVar("Result")

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGES = ("stream", "online_models", "serving", "replay", "headrace")
_MAX_CACHE_AGE = 30 * 86_400.0  # seconds
_OWN_IMPORT = f"from {__name__} import".encode()  # marks the files that have kernels
_IMPORT = re.compile(rb"^from ([a-z_.0-9]+) import", re.MULTILINE)


def _hash_sources() -> str:
    """Of the kernels and all that their files import: numba notices a change of a kernel's own file only.

    A kernel holds the code of kernels that it calls and the values of constants that it names, from any file.
    """
    paths = {path: path.read_bytes() for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*.py"))}
    pending = [path for path, source in paths.items() if _OWN_IMPORT in source]
    visited = set(pending)
    while pending:
        for module in _IMPORT.findall(paths[pending.pop()]):
            path = _ROOT / (module.decode().replace(".", "/") + ".py")
            if path in paths and path not in visited:
                visited.add(path)
                pending.append(path)
    return hashlib.sha256(b"".join(paths[path] for path in sorted(visited))).hexdigest()[:16]


def _cache_folder() -> Path:
    numba_cache_dir = os.environ.get("NUMBA_CACHE_DIR")
    root = (
        Path(numba_cache_dir)
        if numba_cache_dir
        else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "headrace"
    )
    suffix = "-checked" if numba.config.BOUNDSCHECK else ""  # type: ignore[attr-defined]
    return root / f"kernels-{_hash_sources()}{suffix}"


def _prune(current: Path) -> None:
    """Mark our folder as used today; kernels of sources that nobody ran for a month go."""
    current.mkdir(parents=True, exist_ok=True)
    os.utime(current)
    for folder in current.parent.glob("kernels-*"):
        if folder.stat().st_mtime < current.stat().st_mtime - _MAX_CACHE_AGE:
            shutil.rmtree(folder, ignore_errors=True)


_cache_dir = _cache_folder()
with contextlib.suppress(OSError):  # a home that cannot be written: numba looks for another place
    _prune(_cache_dir)
numba.config.CACHE_DIR = str(_cache_dir)  # type: ignore[attr-defined]


# Two processes that compile a kernel for different types at once would keep both under one name.
_WRITER_ID = uuid.uuid4().hex[:12]


def _isolate_cache_files(dispatcher: Callable[..., Result]) -> Callable[..., Result]:
    """The same kernel; what is compiled of it is kept in files that no other process writes."""
    cache_file = dispatcher._cache._cache_file  # type: ignore[attr-defined]
    cache_file._data_name_pattern = cache_file._data_name_pattern.replace("{number", _WRITER_ID + ".{number")
    return dispatcher


def kernel(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile `function` for one core: no Python objects inside, the same bits for the same input.

    It keeps the interpreter's lock: most run for microseconds, and whoever lets the lock go waits long to have it back.
    """
    return _isolate_cache_files(numba.njit(cache=True, error_model="numpy")(function))


def fastmath_kernel(function: Callable[..., Result]) -> Callable[..., Result]:
    """Like `kernel`, but sums may run in vector lanes, in another order than written.

    Dot products run twice as fast; the same input gives the same bits on the same kind of processor only.
    """
    flags = {"reassoc", "nsz"}
    return _isolate_cache_files(numba.njit(cache=True, error_model="numpy", fastmath=flags)(function))
