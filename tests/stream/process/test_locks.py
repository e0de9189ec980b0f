"""A folder has one owner at a time."""

import resource
from pathlib import Path

import pytest

from stream.process.locks import acquire_lock


def test_lock_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "learn.lock"
    with acquire_lock(path), pytest.raises(BlockingIOError, match=r"process \d+ holds it: stop it.*learn\.lock"):
        acquire_lock(path)

    acquire_lock(path).close()


def test_lock_holds_where_its_file_cannot_grow(tmp_path: Path) -> None:
    path, limits = tmp_path / "learn.lock", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        lock = acquire_lock(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with lock, pytest.raises(BlockingIOError, match="process unknown holds it"):
        acquire_lock(path)
