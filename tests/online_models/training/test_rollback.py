"""Rollbacks exclude ranges of events and continue from the right offsets."""

from typing import Any

import pytest

from online_models.control import CheckpointCommand, Command, RollbackCommand, decode_command, encode_command
from online_models.training.progress import Progress
from online_models.training.rollback import plan_rollback, progress_after_rollback, progress_from_manifest
from online_models.versions.checkpoints import Manifest

VERSION = "000001-000000004"
MANIFEST = Manifest(
    version=VERSION, epoch=1, step=4, parent=None, created=5, example_offsets={"0": 4, "1": 2},
    offsets={"0": 40, "1": 20}, skip={"0": [(3, 5)]}, items_offset=6, control_offset=1, watermark=99,
)  # fmt: skip
NOW = Progress(
    epoch=3,
    step=9,
    example_offsets={0: 9, 1: 8, 2: 1},
    offsets={0: 90, 1: 80, 2: 10},
    items_offset=8,
    control_offset=4,
    watermark=200,
)


def roll_back(command: RollbackCommand) -> Progress:
    entry = plan_rollback(command, MANIFEST, NOW, control_offset=5)
    return progress_after_rollback(progress_from_manifest(MANIFEST), entry)


def test_without_ranges_all_later_events_are_excluded() -> None:
    progress = roll_back(RollbackCommand(VERSION))

    assert (progress.epoch, progress.step, progress.control_offset) == (4, 4, 5)
    assert progress.example_offsets == NOW.example_offsets
    assert progress.offsets == NOW.offsets
    assert progress.skip == {0: [(3, 5), (40, 90)], 1: [(20, 80)], 2: [(0, 10)]}
    assert (progress.items_offset, progress.watermark) == (6, 99)


def test_with_ranges_the_other_events_train_again() -> None:
    progress = roll_back(RollbackCommand(VERSION, {"1": [(30, 35)]}))

    assert progress.example_offsets == {0: 4, 1: 2}
    assert progress.offsets == {0: 40, 1: 20}
    assert progress.skip == {0: [(3, 5)], 1: [(30, 35)]}


def test_empty_ranges_train_on_everything_again() -> None:
    assert roll_back(RollbackCommand(VERSION, {})).skip == {0: [(3, 5)]}


@pytest.mark.parametrize(
    "skip",
    [
        {"3": [(1, 2)]},
        {"x": [(1, 2)]},
        {"-1": [(1, 2)]},
        {"²": [(1, 2)]},
        {"0": [(2, 2)]},
        {"0": [(5, 2)]},
        {"0": [(-1, 2)]},
    ],
)
def test_invalid_ranges_are_rejected(skip: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"skip|invalid literal"):
        plan_rollback(RollbackCommand(VERSION, skip), MANIFEST, NOW, control_offset=5)


@pytest.mark.parametrize(
    "command", [RollbackCommand(VERSION), RollbackCommand(VERSION, {"0": [(1, 2)]}), CheckpointCommand()]
)
def test_commands_round_trip(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", b'{"type":"dance"}', b'{"type":"rollback"}'])
def test_invalid_commands_are_rejected(value: bytes) -> None:
    with pytest.raises(ValueError, match="not a command to the learner"):
        decode_command(value)
