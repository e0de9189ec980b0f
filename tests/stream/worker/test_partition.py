"""Blocks of examples are cut between records, and cover every event once."""

import msgspec
import numpy as np
import pytest

from stream.logs import Records
from stream.records.batches import ExampleBatch, Questions
from stream.records.decoding import take_in
from stream.records.events import Event, Limits
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.partition import examples_of, parts


def batch_of(*sizes: int) -> ExampleBatch:
    """Records with these numbers of events."""
    values = [
        msgspec.json.encode([Event(f"e{n}-{i}", "click", 5, "u", "a") for i in range(size)])
        for n, size in enumerate(sizes)
    ]
    n = len(sizes)
    batch = take_in(Records(0, range(n), [None] * n, values, [9] * n), Limits(0, 0)).batch
    questions: Questions = UserTable(MemoryStore(), 16).apply(batch, [b""] * len(batch), ["u"] * len(batch)).questions
    return examples_of(batch, questions)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1), (3, 1, 4, 1), (9,), (1, 9)])
def test_blocks_end_between_records_and_lose_nothing(sizes: tuple[int, ...], rows: int) -> None:
    batch = batch_of(*sizes)
    blocks = list(parts(batch, 0, len(sizes), rows))

    assert [first for first, _, _ in blocks] == [0, *(next_ for _, next_, _ in blocks[:-1])]
    assert blocks[-1][1] == len(sizes)
    assert np.concatenate([part.event for _, _, part in blocks]).tolist() == batch.event.tolist()
    for first, next_, part in blocks:
        assert ((part.offset >= first) & (part.offset < next_)).all()


def test_no_rows_make_one_empty_block_that_says_how_far_it_reaches() -> None:
    [(first, next_, part)] = parts(batch_of(), 3, 8, 100)

    assert (first, next_, len(part)) == (3, 8, 0)
