"""The loop that the tests of this folder drive."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving_loop import Loop


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    with Loop(tmp_path) as loop:
        yield loop


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    """A loop that many tests share: what they send in leaves each other alone."""
    with Loop(tmp_path_factory.mktemp("door")) as loop:
        yield loop
