"""The serving version found on disk is the base version of a replica."""

from itertools import groupby
from pathlib import Path

import pytest

from online_models.control import CheckpointCommand, Command, RollbackCommand
from online_models.versions import gate
from serving.replica.replica import Replica
from serving.replica.serving_version import find_serving_version
from stream.logs import Record
from stream.topics import EVENTS
from tests.support.learner_lab import Lab, make_blocks

COMMANDS: dict[tuple[int, int], Command] = {
    (1, 2): CheckpointCommand(),
    (1, 5): CheckpointCommand(),
    (1, 7): RollbackCommand("000001-000000002", {"0": [(20, 60)]}),
    (2, 6): CheckpointCommand(),
}


@pytest.fixture(scope="module")
def blocks() -> dict[int, list[Record]]:
    return make_blocks()


@pytest.fixture
def lab(tmp_path: Path, blocks: dict[int, list[Record]]) -> Lab:
    lab = Lab(tmp_path, {0: blocks[0][:9]}, COMMANDS)
    lab.log.create(EVENTS, 2)
    return lab


def find_base_version(lab: Lab) -> str:
    """Base version of a replica that starts now."""
    replica = Replica(lab.log, lab.settings)
    while replica.poll():
        pass
    return replica.base_version


def test_folder_without_checkpoints_has_no_serving_version(tmp_path: Path) -> None:
    assert find_serving_version(tmp_path) == ""


def test_serving_version_is_that_of_a_replica_at_each_step(lab: Lab) -> None:
    versions = []
    while lab.step():
        lab.start().wait_for_checkpoint()
        versions.append(find_serving_version(lab.settings.checkpoints))

        assert versions[-1] == find_base_version(lab)

    assert [version for version, _ in groupby(versions)] == [
        "", "000001-000000002", "000001-000000005", "000001-000000002", "000002-000000006",
    ]  # fmt: skip


def test_blocked_and_damaged_versions_do_not_serve(lab: Lab) -> None:
    lab.finish()
    lab.die()
    folder = lab.settings.checkpoints
    gate.override(folder, "000002-000000006", "trained by a flood")

    assert find_serving_version(folder) == find_base_version(lab) == "000001-000000002"

    gate.override(folder, "000002-000000006", "")
    (folder / "000002-000000006" / "items.counters.safetensors").write_bytes(b"")

    assert find_serving_version(folder) == find_base_version(lab) == "000001-000000002"
