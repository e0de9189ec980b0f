"""A live loop for tests that need a server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving_loop import LiveLoop


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[LiveLoop]:
    with LiveLoop(tmp_path) as loop:
        yield loop
