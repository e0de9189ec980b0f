"""A folder has one owner at a time."""

from pathlib import Path

import pytest

from stream.process.locks import acquire_lock


def test_lock_is_exclusive_until_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "learn.lock"
    with acquire_lock(path), pytest.raises(BlockingIOError, match=r"process \d+ holds it: stop it.*learn\.lock"):
        acquire_lock(path)

    acquire_lock(path).close()
