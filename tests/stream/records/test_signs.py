"""Dislikes and low ratings have a negative sign, from the event to the history of its user."""

import msgspec
import numpy as np
import pytest

from stream.logs import Records
from stream.records.batches import EventType
from stream.records.decoding import EventBatch, decode_records
from stream.records.events import Limits
from stream.records.example_blocks import BlockRange, decode_examples, encode_examples
from stream.records.signs import history_types, is_disliked, plain_types
from stream.worker.partition import build_examples
from tests.support.batches import make_queries

NOW = 1_767_225_600_000
ACTIONS = [("rating", 1.0), ("rating", 2.0), ("rating", 2.5), ("dislike", None), ("purchase", 1.0)]


def decode(disliked_stars: float) -> EventBatch:
    values = [
        msgspec.json.encode(
            {"event_id": f"e{i}", "type": kind, "ts": NOW, "user_id": "u", "item_id": f"i{i}", "value": value}
        )
        for i, (kind, value) in enumerate(ACTIONS)
    ]
    n = len(values)
    limits = Limits(max_age=0, max_skew=300, disliked_stars=disliked_stars)
    return decode_records(Records(0, list(range(n)), [None] * n, values, [NOW] * n), limits).batch


@pytest.mark.parametrize(("stars", "negative"), [(2.0, [0, 1, 3]), (2.5, [0, 1, 2, 3]), (0.0, [3]), (-1.0, [3])])
def test_stars_of_a_dislike_are_a_setting(stars: float, negative: list[int]) -> None:
    assert np.flatnonzero(decode(stars).sign < 0).tolist() == negative


def test_history_keeps_type_and_sign() -> None:
    batch = decode(2.0)
    types = history_types(batch.type, batch.sign)

    assert plain_types(types).tolist() == batch.type.tolist()
    assert is_disliked(types).tolist() == (batch.sign < 0).tolist()


def test_history_of_an_older_release_has_dislikes_only_by_type() -> None:
    types = np.array([EventType.click, EventType.dislike, EventType.rating], np.uint8)

    assert is_disliked(types).tolist() == [False, True, False]
    assert plain_types(types).tolist() == types.tolist()


@pytest.mark.parametrize("stars", [2.0, -1.0])
def test_block_holds_the_signs(stars: float) -> None:
    batch = decode(stars)
    n = len(batch)
    examples = build_examples(batch, make_queries(n, [[] for _ in range(n)], np.full(n, NOW)))
    block_range = BlockRange(0, 0, n, n, NOW, 0)

    assert decode_examples(encode_examples(block_range, examples))[1].sign.tolist() == batch.sign.tolist()
