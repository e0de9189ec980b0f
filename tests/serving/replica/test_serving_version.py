"""The serving version found on disk is the base version of a replica."""

from itertools import groupby
from pathlib import Path

import pytest

from online_models.control import CheckpointCommand, Command, PauseCommand, RollbackCommand, encode_command
from online_models.versions import gate
from serving.replica.replica import Replica
from serving.replica.serving_version import find_serving_version
from stream.logs import Record
from stream.topics import CONTROL, EVENTS
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


def start_replica(lab: Lab) -> Replica:
    replica = Replica(lab.log, lab.settings)
    catch_up(replica)
    return replica


def catch_up(replica: Replica) -> None:
    while replica.poll():
        pass


def find_base_version(lab: Lab) -> str:
    """Base version of a replica that starts now."""
    return start_replica(lab).base_version


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


def test_running_replica_and_new_replica_have_the_same_serving_version(lab: Lab) -> None:
    folder, running, versions = lab.settings.checkpoints, Replica(lab.log, lab.settings), []
    while lab.step():
        lab.start().wait_for_checkpoint()
        catch_up(running)
        versions.append(find_serving_version(folder, running.version))

        assert versions[-1] == find_serving_version(folder, start_replica(lab).version) == find_serving_version(folder)

    assert len({*versions}) == 4
    assert running.base_version != versions[-1]  # it was loaded once, and has followed updates since


@pytest.mark.parametrize("command", [PauseCommand("maintenance"), None], ids=["pause", "no pause"])
def test_version_blocked_after_a_replica_passed_it_still_serves_there(lab: Lab, command: Command | None) -> None:
    lab.finish()
    if command:
        lab.log.write(CONTROL, 0, (None, encode_command(command)))
        lab.step()
    folder, running = lab.settings.checkpoints, start_replica(lab)
    gate.override(folder, "000002-000000006", "trained by a flood")
    catch_up(running)

    assert find_serving_version(folder, running.version) == "000002-000000006"
    assert find_serving_version(folder, start_replica(lab).version) == find_serving_version(folder)


def test_state_before_any_training_has_no_serving_version(lab: Lab) -> None:
    assert find_serving_version(lab.settings.checkpoints, Replica(lab.log, lab.settings).version) == ""
