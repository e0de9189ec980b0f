"""Each example trains once, and excluded events train nothing."""

from dataclasses import replace

import numpy as np
import pytest
from prometheus_client import REGISTRY

from online_models.model import RecommenderModel
from online_models.state.item_table import N_CATEGORIES
from online_models.training.journal import OffsetRange
from online_models.training.progress import Progress
from online_models.training.step import read_blocks, set_item_attributes, to_offset_ranges
from stream.ids import hash_ids
from stream.logs import Record
from stream.records.batches import Kind
from stream.records.catalog import CatalogChange, Item
from stream.records.example_blocks import decode_examples, encode_examples
from stream.testing import MemoryLog
from stream.topics import EXAMPLES
from tests.support.learner_lab import make_blocks


@pytest.fixture(scope="module")
def blocks() -> list[bytes]:
    return [value for _, value in make_blocks(200)[0] if value]


@pytest.fixture
def log(blocks: list[bytes]) -> MemoryLog:
    log = MemoryLog()
    log.create(EXAMPLES, 1)
    log.append(EXAMPLES, 0, [(None, block) for block in blocks])
    return log


def offsets(*blocks: bytes) -> list[int]:
    """Offsets of the rows that train."""
    batches = [decode_examples(block)[1] for block in blocks]
    return [int(offset) for batch in batches for offset in batch.offset[batch.kind != Kind.held]]


def test_all_rows_are_consumed_in_order(blocks: list[bytes]) -> None:
    progress = Progress()
    rows = progress.consume(blocks)

    assert rows is not None
    assert rows.partition.tolist() == [0] * len(rows.batch)
    assert rows.batch.offset.tolist() == offsets(*blocks)
    assert progress.offsets == {0: decode_examples(blocks[-1])[0].next_offset}
    assert progress.watermark == decode_examples(blocks[-1])[0].watermark


def test_blocks_read_twice_train_once(blocks: list[bytes]) -> None:
    progress = Progress()
    progress.consume(blocks[:3])

    assert progress.consume(blocks[:3]) is None
    rest = progress.consume(blocks)

    assert rest is not None
    assert rest.batch.offset.tolist() == offsets(*blocks[3:])


def test_skipped_events_and_their_actions_are_excluded(blocks: list[bytes]) -> None:
    whole = Progress().consume(blocks)
    part = Progress(skip={0: [(10, 30), (12, 14)], 5: [(0, 100)]}).consume(blocks)
    assert part is not None
    assert whole is not None
    all_rows, batch = whole.batch, part.batch
    is_excluded = ((all_rows.offset >= 10) & (all_rows.offset < 30)) | (
        (all_rows.impression_offset >= 10) & (all_rows.impression_offset < 30)
    )

    assert batch.offset.tolist() == all_rows.offset[~is_excluded].tolist()
    assert (all_rows.impression_offset[is_excluded & (all_rows.offset >= 30)] >= 10).any()


def test_thousands_of_ranges_exclude_the_rows_inside(blocks: list[bytes]) -> None:
    whole = Progress().consume(blocks)
    part = Progress(skip={0: [(n, n + 1) for n in range(0, 9_000, 3)]}).consume(blocks)
    assert whole is not None
    assert part is not None
    is_kept = (whole.batch.offset % 3 != 0) & (
        (whole.batch.impression_offset % 3 != 0) | (whole.batch.impression_offset < 0)
    )

    assert part.batch.offset.tolist() == whole.batch.offset[is_kept].tolist()


def test_quarantined_actions_are_excluded(blocks: list[bytes]) -> None:
    block_range, batch = decode_examples(blocks[0])
    held = replace(batch, kind=np.full(len(batch), Kind.held, np.uint8))

    assert Progress().consume([encode_examples(block_range, held)]) is None


def test_blocks_of_a_step_can_be_read_again(log: MemoryLog, blocks: list[bytes]) -> None:
    read = to_offset_ranges([log.read(EXAMPLES, 0, 1, 2)])

    assert read == [OffsetRange(0, 1, 3)]
    assert list(read_blocks(log, read)) == blocks[1:3]


def test_examples_that_the_log_no_longer_keeps_are_named(log: MemoryLog) -> None:
    log.trim(EXAMPLES, 0, 2)

    with pytest.raises(ValueError, match="names examples 1 to 3 of partition 0, but the log keeps them from 2"):
        list(read_blocks(log, [OffsetRange(0, 1, 3)]))
    with pytest.raises(ValueError, match="names examples 2 to 99"):
        list(read_blocks(log, [OffsetRange(0, 2, 99)]))


def test_an_empty_read_has_no_ranges() -> None:
    records: list[Record] = []
    log = MemoryLog()
    log.create(EXAMPLES, 1)
    log.append(EXAMPLES, 0, records)

    assert to_offset_ranges([log.read(EXAMPLES, 0, 0, 5)]) == []


def test_categories_beyond_the_limit_are_counted() -> None:
    name = "headrace_learn_categories_left_out_total"
    model, before = RecommenderModel(), REGISTRY.get_sample_value(name) or 0.0
    names = [f"c{n}" for n in range(1000)]
    set_item_attributes(model, [CatalogChange(7, Item("i", categories=[*names, "c0", ""]), b"")])
    row = model.items.lookup(np.array([7], np.uint64))[0]

    assert model.items.catalog["categories"][row].tolist() == hash_ids(names[:N_CATEGORIES]).tolist()
    assert REGISTRY.get_sample_value(name) == before + 1000 - N_CATEGORIES
