"""Compile sequential kernels with numba, and cache them on disk."""

import contextlib
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba

Result = TypeVar("Result")
Columns = TypeVar("Columns", bound=tuple[Any, ...])

_ROOT = Path(__file__).resolve().parent.parent
_MAX_CACHE_AGE = 30 * 86_400.0  # seconds
_IMPORT = re.compile(rb"^from ([a-z_.0-9]+) import", re.MULTILINE)
_logger = logging.getLogger(__name__)
# Two processes that compile a kernel for different types at the same time must not write the same file.
_WRITER_ID = uuid.uuid4().hex[:12]


@cache
def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


@cache
def _hash_sources(path: Path) -> str:
    """Hash of a file and of everything that it imports from this project.

    A compiled kernel holds the code of the kernels that it calls and the values of the constants that it names, from
    any file; numba itself notices changes of the kernel's own file only. It also names the module of each kernel, so a
    file that moves gets another hash.
    """
    pending, sources = [path], {}
    while pending:
        current = pending.pop()
        if current in sources or (source := _read(current)) is None:
            continue
        sources[current] = source
        pending += [_ROOT / (module.decode().replace(".", "/") + ".py") for module in _IMPORT.findall(source)]
    files = (str(found.relative_to(_ROOT)).encode() + b"\0" + sources[found] for found in sorted(sources))
    return hashlib.sha256(b"\0".join(files)).hexdigest()[:16]


def _list_cache_roots() -> Iterator[Path]:
    """Folders for compiled kernels, best first; a user may lack a home, a disk may be read-only."""
    if root := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(root)
    if cache_home := os.environ.get("XDG_CACHE_HOME"):
        yield Path(cache_home) / "headrace"
    else:
        with contextlib.suppress(RuntimeError):  # this user has no home
            yield Path("~/.cache").expanduser() / "headrace"
    data_folder = Path(os.environ.get("HEADRACE_DATA__FOLDER", "headrace-data"))
    if data_folder.is_dir():
        yield data_folder / "kernels"
    with contextlib.suppress(FileNotFoundError):  # no folder for temporary files is writable
        yield Path(tempfile.gettempdir()) / f"headrace-kernels-{os.geteuid()}"


def _is_usable(root: Path) -> bool:
    """Return True if this user can write to a folder, and no other user among temporary files.

    Compiled kernels are code: those of another user must not be loaded.
    """
    status = root.stat()
    is_own = status.st_uid == os.geteuid() and not status.st_mode & stat.S_IWOTH
    return os.access(root, os.W_OK | os.X_OK) and (is_own or root.parent != Path(tempfile.gettempdir()))


@cache
def cache_root() -> Path | None:
    """Folder with one folder of compiled kernels per state of the sources; None if none works."""
    roots = list(_list_cache_roots())
    for root in roots:
        with contextlib.suppress(OSError):
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            if _is_usable(root):
                if root != roots[0]:
                    _logger.warning("compiled kernels go to %s, because %s is not writable", root, roots[0])
                return root
    _logger.warning("kernels are compiled at every start, because none of %s is writable", ", ".join(map(str, roots)))
    return None


@cache
def _open_cache_folder(path: Path) -> Path | None:
    """The cache folder of a source file, marked as used today; None if nothing is writable."""
    root = cache_root()
    if root is None:
        return None
    folder = root / f"kernels-{_hash_sources(path)}{'-checked' if numba.config.BOUNDSCHECK else ''}"  # type: ignore[attr-defined]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        _delete_unused(root)
    except OSError as error:
        _logger.warning("kernels are compiled at every start: %s", error)
        return None
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
    if folder is None:
        uncached: Callable[..., Result] = numba.njit(error_model="numpy", fastmath=fastmath)(function)
        return uncached
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
