"""A rollback that skips bad events and their consequences leaves no bits of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from online_models.control import CheckpointCommand, RollbackCommand, encode_command
from online_models.training.contamination import contaminated_ranges, contaminated_versions
from online_models.versions.checkpoints import version_name
from stream.ids import hash_id
from stream.logs import Record
from stream.records.batches import Kind
from stream.records.example_blocks import decode_examples, encode_examples
from stream.topics import CONTROL
from tests.support.learner_lab import Lab, find_differences, make_blocks

Blocks = dict[int, list[Record]]
BAD_BLOCK = 3  # of partition 0: step 4 trains on it
CLEAN = version_name(1, 2)


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    """Blocks with slates of the version before their step, in partition 1 of two versions."""
    served: Blocks = {0: [], 1: []}
    for partition, records in make_blocks().items():
        for n, (_, value) in enumerate(records[:12]):
            block_range, batch = decode_examples(value or b"")
            step = n if partition == 0 else (2, BAD_BLOCK + 5)[n % 2]
            batch = replace(batch, version=np.full(len(batch), hash_id(version_name(1, step)), np.uint64))
            served[partition].append((None, encode_examples(block_range, batch)))
    return served


@pytest.fixture(scope="module")
def bad(blocks: Blocks) -> tuple[int, int]:
    block_range, _ = decode_examples(blocks[0][BAD_BLOCK][1] or b"")
    return block_range.first_offset + 4, block_range.next_offset - 4


def without(blocks: Blocks, bad: tuple[int, int]) -> Blocks:
    """Remove the bad events, the slates of contaminated versions, and the actions on those."""
    clean: Blocks = {}
    slates: set[int] = set()
    for partition, records in blocks.items():
        offsets = set(range(*bad)) if partition == 0 else set()
        rows = [decode_examples(value or b"") for _, value in records]
        for n, (_, batch) in enumerate(rows):
            tainted = n > BAD_BLOCK if partition == 0 else n % 2 == 1
            shown = batch.kind == Kind.shown
            if tainted:
                slates |= set(batch.impression[shown].tolist())
                offsets |= set(batch.offset[shown].tolist())
            clicks = (batch.kind == Kind.action) & np.isin(batch.impression, np.array(sorted(slates), np.uint64))
            offsets |= set(batch.offset[clicks].tolist())
        removed = np.array(sorted(offsets))
        clean[partition] = [
            (
                None,
                encode_examples(
                    block_range, batch.take(np.flatnonzero(~_any_in(removed, batch.offset, batch.impression_offset)))
                ),
            )
            for block_range, batch in rows
        ]
    return clean


def _any_in(removed: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    hit: np.ndarray = np.logical_or.reduce([np.isin(column, removed) for column in columns])
    return hit


def test_skipped_consequences_leave_no_bits(tmp_path: Path, blocks: Blocks, bad: tuple[int, int]) -> None:
    lab = Lab(tmp_path / "poisoned", blocks, {(1, 2): CheckpointCommand()}, batch=1).finish()
    lab.start().wait_for_checkpoint()
    skip = contaminated_ranges(lab.log, lab.settings.checkpoints, {"0": [bad]})
    poisoned = lab.bits
    lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand(CLEAN, skip))))
    lab.finish()
    never = Lab(tmp_path / "never", without(blocks, bad), batch=1).finish()
    narrow = Lab(tmp_path / "narrow", blocks, {(1, 2): CheckpointCommand()}, batch=1).finish()
    narrow.log.write(CONTROL, 0, (None, encode_command(RollbackCommand(CLEAN, {"0": [bad]}))))
    narrow.finish()

    assert lab.start().progress.epoch == 2
    assert find_differences(lab.bits, never.bits) == []
    assert find_differences(lab.bits, poisoned)
    assert find_differences(narrow.bits, never.bits)


def test_versions_are_contaminated_from_bad_step_to_rollback(
    tmp_path: Path, blocks: Blocks, bad: tuple[int, int]
) -> None:
    commands = {(1, 2): CheckpointCommand(), (1, 8): RollbackCommand(CLEAN, {"0": [bad]})}
    lab = Lab(tmp_path, blocks, commands, batch=1).finish()
    contaminated = contaminated_versions(lab.log, lab.settings.checkpoints, {"0": [bad]})

    assert lab.start().progress.epoch == 2
    assert contaminated == [version_name(1, step) for step in range(BAD_BLOCK + 1, 9)]


def test_events_that_trained_nothing_have_no_consequences(tmp_path: Path, blocks: Blocks) -> None:
    lab = Lab(tmp_path, blocks, batch=1).finish()
    nowhere = {"0": [(10_000, 10_001)]}

    assert contaminated_ranges(lab.log, lab.settings.checkpoints, nowhere) == nowhere
