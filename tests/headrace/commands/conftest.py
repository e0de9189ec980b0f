"""A data folder that a learner has filled, for commands of this process."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.live_folder import LiveFolder


@pytest.fixture(scope="session")
def filled_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two versions, which each test gets a copy of."""
    folder = tmp_path_factory.mktemp("live")
    live = LiveFolder(folder)
    for count in (200, 200):
        live.write_events(count)
        live.save_version()
    live.close()
    return folder


@pytest.fixture
def live(filled_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveFolder]:
    """A folder with two versions, and the settings of a command in it."""
    shutil.copytree(filled_folder, tmp_path / "data")
    live = LiveFolder(tmp_path / "data")
    for name, value in live.environ.items():
        monkeypatch.setenv(name, value)
    yield live
    live.close()
