"""Columns are cut and joined without losing a row."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.logs import Records
from stream.records.batches import ExampleBatch, Kind, asked_rows, concat, flat_runs, offsets_of
from stream.records.decoding import take_in
from stream.records.events import Event, Limits
from stream.records.example_blocks import Reach, decode_examples, encode_examples
from stream.records.feature_codec import encode_features
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.joiner import Joiner
from stream.worker.partition import examples_of

NOWHERE = Reach(0, 0, 0, 0, 0, 0)


@cache
def batch_of(n: int = 12, width: int = 2) -> ExampleBatch:
    """Impressions and actions in turn, some of them logged with features."""
    events = []
    for i in range(n):
        items = [f"i{j}" for j in range(i % 4 + 1)]
        features = encode_features(np.full((len(items), width), i, np.float32)) if i % 3 == 0 else None
        slate = Event(f"s{i}", "impression", 9 + i, "u", impression_id=f"r{i}", items=items, features=features)
        events += [slate, Event(f"a{i}", "click", 9 + i, "u", f"i{i}")]
    values = [msgspec.json.encode(event) for event in events]
    batch = take_in(Records(0, range(len(values)), [None] * len(values), values, [9] * len(values)), Limits(0, 9)).batch
    return examples_of(
        batch, UserTable(MemoryStore(), 16).apply(batch, [b""] * len(batch), ["u"] * len(batch)).questions
    )


def row(batch: ExampleBatch, i: int) -> bytes:
    """One row with its question, its list and its features."""
    return encode_examples(NOWHERE, batch.take(np.array([i])))


@given(st.lists(st.integers(0, 23), max_size=30))
def test_rows_that_are_taken_are_whole(rows: list[int]) -> None:
    batch = batch_of()
    taken = batch.take(np.array(rows, np.int64))

    assert len(taken) == len(taken.questions) == len(taken.lists) == len(rows)
    assert [row(taken, i) for i in range(len(rows))] == [row(batch, i) for i in rows]


@given(st.lists(st.integers(0, 24), max_size=5))
def test_pieces_joined_are_the_whole(cuts: list[int]) -> None:
    batch, borders = batch_of(), sorted({0, 24, *cuts})
    pieces = [batch.take(np.arange(a, b)) for a, b in pairwise(borders)]

    assert encode_examples(NOWHERE, concat(pieces)) == encode_examples(NOWHERE, batch.take(np.arange(24)))


def test_feature_blocks_of_another_width_are_dropped_and_their_rows_stay() -> None:
    narrow, wide = batch_of(3, width=2), batch_of(3, width=5)
    both = concat([narrow, wide])

    assert len(both) == 12
    assert both.features.shape[1] == 2
    assert (both.served[6:] == -1).all()
    assert both.served[:6].tolist() == narrow.served.tolist()


def test_a_block_of_no_rows_round_trips() -> None:
    _, batch = decode_examples(encode_examples(NOWHERE, batch_of().take(np.arange(0))))

    assert len(batch) == 0


@given(st.lists(st.integers(0, 5), max_size=10), st.data())
def test_flat_runs_are_the_entries_of_the_chosen_runs(lengths: list[int], data: st.DataObject) -> None:
    start = offsets_of(np.array(lengths, np.int64))
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6)) if lengths else []
    flat, taken = flat_runs(start, np.array(rows, np.int64))
    runs = [list(range(start[i], start[i + 1])) for i in rows]

    assert flat.tolist() == [entry for run in runs for entry in run]
    assert np.diff(taken).tolist() == [len(run) for run in runs]


def test_an_action_on_a_slate_was_led_to_by_the_question_of_that_slate() -> None:
    batch = batch_of(3)
    joined = Joiner(30.0).join(answering(batch, 3, slate=2), [9] * len(batch))
    [clicked] = np.flatnonzero(joined.kind == Kind.clicked)
    led = asked_rows(joined)

    assert led.tolist() == [0, 1, 2, clicked, 4, 5, 6]
    assert joined.questions.shown_start[clicked + 1] - joined.questions.shown_start[clicked] == 1


def answering(batch: ExampleBatch, act: int, slate: int) -> ExampleBatch:
    """The batch with an action that answers a slate."""
    impression, item = batch.impression.copy(), batch.lists.item.copy()
    impression[act], item[batch.lists.start[act]] = impression[slate], item[batch.lists.start[slate]]
    return replace(batch, impression=impression, lists=replace(batch.lists, item=item))
