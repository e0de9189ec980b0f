"""What is left out with its ripple leaves the bits of a learner that never saw any of it."""

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
from tests.support.learner_lab import Lab, differing, lessons

Blocks = dict[int, list[Record]]
BAD_BLOCK = 3  # of partition 0: step 4 learns it
CLEAN = version_name(1, 2)


@pytest.fixture(scope="module")
def blocks() -> Blocks:
    """As if each slate was made by the version before the step that learns it; in partition 1 by two of them."""
    served: Blocks = {0: [], 1: []}
    for partition, records in lessons().items():
        for n, (_, value) in enumerate(records[:12]):
            reach, batch = decode_examples(value or b"")
            step = n if partition == 0 else (2, BAD_BLOCK + 5)[n % 2]
            batch = replace(batch, version=np.full(len(batch), hash_id(version_name(1, step)), np.uint64))
            served[partition].append((None, encode_examples(reach, batch)))
    return served


@pytest.fixture(scope="module")
def bad(blocks: Blocks) -> tuple[int, int]:
    reach, _ = decode_examples(blocks[0][BAD_BLOCK][1] or b"")
    return reach.first_offset + 4, reach.next_offset - 4


def without(blocks: Blocks, bad: tuple[int, int]) -> Blocks:
    """The blocks but for what is known to be bad: the events, slates of versions they taught, actions on those."""
    kept: Blocks = {}
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
            answers = (batch.kind == Kind.action) & np.isin(batch.impression, np.array(sorted(slates), np.uint64))
            offsets |= set(batch.offset[answers].tolist())
        gone = np.array(sorted(offsets))
        kept[partition] = [
            (
                None,
                encode_examples(
                    reach, batch.take(np.flatnonzero(~_any_in(gone, batch.offset, batch.impression_offset)))
                ),
            )
            for reach, batch in rows
        ]
    return kept


def _any_in(gone: np.ndarray, *columns: np.ndarray) -> np.ndarray:
    hit: np.ndarray = np.logical_or.reduce([np.isin(column, gone) for column in columns])
    return hit


def test_the_bits_are_those_of_a_learner_that_never_saw_it(
    tmp_path: Path, blocks: Blocks, bad: tuple[int, int]
) -> None:
    lab = Lab(tmp_path / "poisoned", blocks, {(1, 2): CheckpointCommand()}, batch=1).finish()
    lab.start()._checkpoint_writer.wait()
    skip = contaminated_ranges(lab.log, lab.settings.checkpoints, {"0": [bad]})
    everything = lab.bits
    lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand(CLEAN, skip))))
    lab.finish()
    never = Lab(tmp_path / "never", without(blocks, bad), batch=1).finish()
    narrow = Lab(tmp_path / "narrow", blocks, {(1, 2): CheckpointCommand()}, batch=1).finish()
    narrow.log.write(CONTROL, 0, (None, encode_command(RollbackCommand(CLEAN, {"0": [bad]}))))
    narrow.finish()

    assert lab.start().progress.epoch == 2
    assert differing(lab.bits, never.bits) == []
    assert differing(lab.bits, everything)
    assert differing(narrow.bits, never.bits)


def test_versions_are_taught_from_the_bad_step_on_until_the_learner_goes_back(
    tmp_path: Path, blocks: Blocks, bad: tuple[int, int]
) -> None:
    orders = {(1, 2): CheckpointCommand(), (1, 8): RollbackCommand(CLEAN, {"0": [bad]})}
    lab = Lab(tmp_path, blocks, orders, batch=1).finish()
    taught = contaminated_versions(lab.log, lab.settings.checkpoints, {"0": [bad]})

    assert lab.start().progress.epoch == 2
    assert taught == [version_name(1, step) for step in range(BAD_BLOCK + 1, 9)]


def test_what_taught_nothing_has_no_ripple(tmp_path: Path, blocks: Blocks) -> None:
    lab = Lab(tmp_path, blocks, batch=1).finish()
    nowhere = {"0": [(10_000, 10_001)]}

    assert contaminated_ranges(lab.log, lab.settings.checkpoints, nowhere) == nowhere
