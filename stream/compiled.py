"""The one door to numba: sequential kernels, compiled once and kept on disk."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

Result = TypeVar("Result")

_ROOT = Path(__file__).resolve().parent.parent


def _digest_of_sources() -> str:
    """Numba does not notice that a kernel called from another file has changed; a folder per state of the sources does."""
    digest = hashlib.sha256()
    for package in ("stream", "online_models", "serving", "replay"):
        for path in sorted((_ROOT / package).rglob("*.py")):
            source = path.read_bytes()
            if b"import kernel" in source:
                digest.update(source)
    return digest.hexdigest()[:16]


def _cache_folder() -> str:
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    home = Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "headrace"
    return str(home / f"kernels-{_digest_of_sources()}")


numba.config.CACHE_DIR = _cache_folder()  # type: ignore[attr-defined]


def kernel(function: Callable[..., Result]) -> Callable[..., Result]:
    """Compile `function` for one core: no Python objects inside, the same bits for the same input."""
    compiled: Callable[..., Result] = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    return compiled


def summing_kernel(function: Callable[..., Result]) -> Callable[..., Result]:
    """Like `kernel`, but sums may run in vector lanes, in another order than written.

    Dot products run twice as fast; the same input gives the same bits on the same kind of processor only.
    """
    lanes = {"reassoc", "nsz"}
    compiled: Callable[..., Result] = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath=lanes)(function)
    return compiled
