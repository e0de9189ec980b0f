"""A folder with versions and a rollback between them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from online_models.control import CheckpointCommand, Command, RollbackCommand
from tests.support.learner_lab import Lab, make_blocks
from tests.support.services import free_ports

FIRST, SAVED, LAST = "000001-000000003", "000001-000000005", "000002-000000005"
COMMANDS: Mapping[tuple[int, int], Command] = {
    (1, 3): CheckpointCommand(),
    (1, 5): RollbackCommand(FIRST, {"0": [(20, 60)]}, "label_flip-0.20"),
    (2, 5): CheckpointCommand(),
}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that each test gets a copy of."""
    folder = tmp_path_factory.mktemp("lab")
    lab = Lab(folder, make_blocks(), COMMANDS).finish()
    lab.start().wait_for_checkpoint()
    return folder


@pytest.fixture
def folder(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path))
    monkeypatch.setenv("HEADRACE_SERVE__PORT", str(free_ports(1)[0]))
    return tmp_path
