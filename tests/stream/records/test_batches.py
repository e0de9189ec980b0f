"""Columns are split and concatenated without losing a row."""

from dataclasses import replace
from functools import cache
from itertools import pairwise

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.logs import Records
from stream.records.batches import ExampleBatch, Kind, concat, flatten_ragged, query_rows, ragged_starts
from stream.records.decoding import decode_records
from stream.records.events import Event, Limits
from stream.records.example_blocks import BlockRange, decode_examples, encode_examples
from stream.records.feature_codec import encode_features
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.joiner import Joiner
from stream.worker.partition import build_examples

EMPTY_RANGE = BlockRange(0, 0, 0, 0, 0, 0)


@cache
def make_batch(n: int = 12, width: int = 2) -> ExampleBatch:
    """Alternating impressions and actions, some impressions with features."""
    events = []
    for i in range(n):
        items = [f"i{j}" for j in range(i % 4 + 1)]
        features = encode_features(np.full((len(items), width), i, np.float32)) if i % 3 == 0 else None
        slate = Event(f"s{i}", "impression", 9 + i, "u", impression_id=f"r{i}", items=items, features=features)
        events += [slate, Event(f"a{i}", "click", 9 + i, "u", f"i{i}")]
    values = [msgspec.json.encode(event) for event in events]
    records = Records(0, range(len(values)), [None] * len(values), values, [9] * len(values))
    decoded = decode_records(records, Limits(0, 9))
    result = UserTable(MemoryStore(), 16).apply(decoded.batch, decoded.events)
    return build_examples(decoded.batch, result.queries)


def encode_row(batch: ExampleBatch, i: int) -> bytes:
    """Encode one row with its query, its list and its features."""
    return encode_examples(EMPTY_RANGE, batch.take(np.array([i])))


@given(st.lists(st.integers(0, 23), max_size=30))
def test_taken_rows_are_complete(rows: list[int]) -> None:
    batch = make_batch()
    subset = batch.take(np.array(rows, np.int64))

    assert len(subset) == len(subset.queries) == len(subset.lists) == len(rows)
    assert [encode_row(subset, i) for i in range(len(rows))] == [encode_row(batch, i) for i in rows]


@given(st.lists(st.integers(0, 24), max_size=5))
def test_concatenated_pieces_equal_the_whole_batch(cuts: list[int]) -> None:
    batch, boundaries = make_batch(), sorted({0, 24, *cuts})
    pieces = [batch.take(np.arange(a, b)) for a, b in pairwise(boundaries)]

    assert encode_examples(EMPTY_RANGE, concat(pieces)) == encode_examples(EMPTY_RANGE, batch.take(np.arange(24)))


def test_concat_drops_feature_blocks_of_another_width() -> None:
    narrow, wide = make_batch(3, width=2), make_batch(3, width=5)
    both = concat([narrow, wide])

    assert len(both) == 12
    assert both.features.shape[1] == 2
    assert (both.feature_row[6:] == -1).all()
    assert both.feature_row[:6].tolist() == narrow.feature_row.tolist()


def test_empty_block_round_trips() -> None:
    _, batch = decode_examples(encode_examples(EMPTY_RANGE, make_batch().take(np.arange(0))))

    assert len(batch) == 0


@given(st.lists(st.integers(0, 5), max_size=10), st.data())
def test_flatten_ragged_returns_the_selected_runs(lengths: list[int], data: st.DataObject) -> None:
    start = ragged_starts(np.array(lengths, np.int64))
    rows = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6)) if lengths else []
    flat, flat_start = flatten_ragged(start, np.array(rows, np.int64))
    runs = [list(range(start[i], start[i + 1])) for i in rows]

    assert flat.tolist() == [entry for run in runs for entry in run]
    assert np.diff(flat_start).tolist() == [len(run) for run in runs]


def test_view_selects_the_lists_of_a_kind() -> None:
    batch = make_batch()
    view = batch.select(Kind.shown)
    lists = batch.lists.take(view.rows)

    assert view.rows.tolist() == np.flatnonzero(batch.kind == Kind.shown).tolist()
    assert batch.lists.item[view.flat].tolist() == lists.item.tolist()
    assert view.labels.tolist() == lists.label.tolist()
    assert view.start.tolist() == lists.start.tolist()
    assert view.repeat(view.rows).tolist() == np.repeat(view.rows, np.diff(lists.start)).tolist()


def test_action_on_a_slate_maps_to_the_query_of_that_slate() -> None:
    batch = make_batch(3)
    examples = Joiner(30.0).join(link_action_to_slate(batch, 3, slate_row=2), [9] * len(batch))
    [click_row] = np.flatnonzero(examples.kind == Kind.clicked)
    rows = query_rows(examples)

    assert rows.tolist() == [0, 1, 2, click_row, 4, 5, 6]
    assert examples.queries.shown_start[click_row + 1] - examples.queries.shown_start[click_row] == 1


def link_action_to_slate(batch: ExampleBatch, action_row: int, slate_row: int) -> ExampleBatch:
    """Make an action refer to a slate of the batch."""
    impression, item = batch.impression.copy(), batch.lists.item.copy()
    impression[action_row] = impression[slate_row]
    item[batch.lists.start[action_row]] = item[batch.lists.start[slate_row]]
    return replace(batch, impression=impression, lists=replace(batch.lists, item=item))


def test_user_keys_round_trip_without_columns_of_zeros() -> None:
    batch = make_batch().take(np.arange(12))
    plain = encode_examples(EMPTY_RANGE, batch)
    batch.queries.user_keys[3, :2] = (7, 9)
    block = encode_examples(EMPTY_RANGE, batch)

    assert np.array_equal(decode_examples(block)[1].queries.user_keys, batch.queries.user_keys)
    assert not decode_examples(plain)[1].queries.user_keys.any()
    assert len(block) - len(plain) < 2 * 8 * len(batch) + 100
