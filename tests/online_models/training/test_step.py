"""Each example counts once, and what is left out stays left out."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.training.journal import OffsetRange
from online_models.training.step import Progress, next_batch, read_blocks, to_offset_ranges
from stream.logs import Record
from stream.records.batches import Kind
from stream.records.example_blocks import decode_examples, encode_examples
from stream.testing import MemoryLog
from stream.topics import EXAMPLES
from tests.support.learner_lab import lessons


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    return [value for _, value in lessons(200)[0] if value]


@pytest.fixture
def log(blocks: list[bytes]) -> MemoryLog:
    log = MemoryLog()
    log.create(EXAMPLES, 1)
    log.append(EXAMPLES, 0, [(None, block) for block in blocks])
    return log


def offsets(*blocks: bytes) -> list[int]:
    return np.concatenate([decode_examples(block)[1].offset for block in blocks]).tolist()


def test_all_rows_are_learnt_in_order(blocks: list[bytes]) -> None:
    progress = Progress()
    learnt = next_batch(progress, blocks)

    assert learnt is not None
    assert learnt.partition.tolist() == [0] * len(learnt.batch)
    assert learnt.batch.offset.tolist() == offsets(*blocks)
    assert progress.offsets == {0: decode_examples(blocks[-1])[0].next_offset}
    assert progress.watermark == decode_examples(blocks[-1])[0].watermark


def test_blocks_that_come_again_teach_nothing(blocks: list[bytes]) -> None:
    progress = Progress()
    next_batch(progress, blocks[:3])

    assert next_batch(progress, blocks[:3]) is None
    rest = next_batch(progress, blocks)

    assert rest is not None
    assert rest.batch.offset.tolist() == offsets(*blocks[3:])


def test_skipped_events_teach_nothing_nor_what_came_of_them(blocks: list[bytes]) -> None:
    whole = next_batch(Progress(), blocks)
    part = next_batch(Progress(skip={0: [(10, 30), (12, 14)], 5: [(0, 100)]}), blocks)
    assert part is not None
    assert whole is not None
    everything, batch = whole.batch, part.batch
    left_out = ((everything.offset >= 10) & (everything.offset < 30)) | (
        (everything.impression_offset >= 10) & (everything.impression_offset < 30)
    )

    assert batch.offset.tolist() == everything.offset[~left_out].tolist()
    assert (everything.impression_offset[left_out & (everything.offset >= 30)] >= 10).any()


def test_thousands_of_ranges_leave_out_what_lies_in_them(blocks: list[bytes]) -> None:
    whole, part = (
        next_batch(Progress(), blocks),
        next_batch(Progress(skip={0: [(n, n + 1) for n in range(0, 9_000, 3)]}), blocks),
    )
    assert whole is not None
    assert part is not None
    kept = (whole.batch.offset % 3 != 0) & (
        (whole.batch.impression_offset % 3 != 0) | (whole.batch.impression_offset < 0)
    )

    assert part.batch.offset.tolist() == whole.batch.offset[kept].tolist()


def test_actions_in_quarantine_teach_nothing(blocks: list[bytes]) -> None:
    reach, batch = decode_examples(blocks[0])
    held = replace(batch, kind=np.full(len(batch), Kind.held, np.uint8))

    assert next_batch(Progress(), [encode_examples(reach, held)]) is None


def test_what_is_read_can_be_read_again(log: MemoryLog, blocks: list[bytes]) -> None:
    read = to_offset_ranges([log.read(EXAMPLES, 0, 1, 2)])

    assert read == [OffsetRange(0, 1, 3)]
    assert list(read_blocks(log, read)) == blocks[1:3]


def test_examples_that_the_log_no_longer_keeps_are_named(log: MemoryLog) -> None:
    log.trim(EXAMPLES, 0, 2)

    with pytest.raises(ValueError, match="names examples 1 to 3 of partition 0, but the log keeps them from 2"):
        list(read_blocks(log, [OffsetRange(0, 1, 3)]))
    with pytest.raises(ValueError, match="names examples 2 to 99"):
        list(read_blocks(log, [OffsetRange(0, 2, 99)]))


def test_nothing_is_no_record_to_read() -> None:
    records: list[Record] = []
    log = MemoryLog()
    log.create(EXAMPLES, 1)
    log.append(EXAMPLES, 0, records)

    assert to_offset_ranges([log.read(EXAMPLES, 0, 0, 5)]) == []
