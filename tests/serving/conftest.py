"""Live loops for the tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving_loop import LiveLoop


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[LiveLoop]:
    with LiveLoop(tmp_path) as loop:
        yield loop


@pytest.fixture(scope="module")
def shared_loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLoop]:
    """A loop that the tests of a module share; their data does not interact."""
    with LiveLoop(tmp_path_factory.mktemp("shared")) as loop:
        yield loop
