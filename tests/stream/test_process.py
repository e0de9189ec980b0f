"""What every process shares."""

from pathlib import Path

import pytest

from stream.process import hold_alone


def test_a_folder_is_held_by_one_until_it_lets_go(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "learn.lock"
    with hold_alone(path), pytest.raises(BlockingIOError, match=r"process \d+ has it: stop that one.*learn\.lock"):
        hold_alone(path)

    hold_alone(path).close()
