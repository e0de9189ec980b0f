"""Blocks of examples are split between records, and cover every event once."""

import msgspec
import numpy as np
import pytest

from stream.logs import Records
from stream.records.batches import ExampleBatch
from stream.records.decoding import decode_records
from stream.records.events import Event, Limits
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.partition import build_examples, split_blocks


def make_batch(*sizes: int) -> ExampleBatch:
    """Examples of records with the given numbers of events."""
    values = [
        msgspec.json.encode([Event(f"e{n}-{i}", "click", 5, "u", "a") for i in range(size)])
        for n, size in enumerate(sizes)
    ]
    n = len(sizes)
    decoded = decode_records(Records(0, range(n), [None] * n, values, [9] * n), Limits(0, 0))
    result = UserTable(MemoryStore(), 16).apply(decoded.batch, decoded.events)
    return build_examples(decoded.batch, result.queries)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 1, 4, 1), (9,), (1, 9)])
def test_blocks_end_between_records_and_lose_nothing(sizes: tuple[int, ...], rows: int) -> None:
    batch = make_batch(*sizes)
    blocks = list(split_blocks(batch, 0, len(sizes), rows))

    assert [first for first, _, _ in blocks] == [0, *(next_offset for _, next_offset, _ in blocks[:-1])]
    assert blocks[-1][1] == len(sizes)
    assert np.concatenate([part.event for _, _, part in blocks]).tolist() == batch.event.tolist()
    for first, next_offset, part in blocks:
        assert ((part.offset >= first) & (part.offset < next_offset)).all()


def test_batch_without_rows_makes_one_empty_block() -> None:
    [(first, next_offset, part)] = split_blocks(make_batch(), 3, 8, 100)

    assert (first, next_offset, len(part)) == (3, 8, 0)
