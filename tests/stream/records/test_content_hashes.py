"""The content of an event is its user, type, time, value and items."""

from typing import Any

import msgspec
import numpy as np
import pytest

from stream.logs import Records
from stream.records.content_hashes import batch_content_hashes, event_content_hashes, example_content_hashes
from stream.records.decoding import decode_records
from stream.records.events import Limits
from stream.testing import MemoryStore
from stream.users.table import UserTable
from stream.worker.partition import build_examples, mark_quarantined
from tests.support.events import START

CLICK: dict[str, Any] = {"event_id": "e1", "type": "click", "ts": START, "user_id": "u1", "item_id": "a", "value": 2.0}
IMPRESSION = {"event_id": "e1", "type": "impression", "ts": START, "user_id": "u1", "impression_id": "r1"}
SLATE = IMPRESSION | {"items": ["a", "b"]}


def hash_events(*events: dict[str, Any]) -> list[int]:
    values = [msgspec.json.encode(event) for event in events]
    n = len(values)
    decoded = decode_records(Records(0, range(n), [None] * n, values, [START] * n), Limits(0, 300))
    hashes = batch_content_hashes(decoded.batch)
    queries = UserTable(MemoryStore(), 16).apply(decoded.batch, decoded.events).queries
    examples = mark_quarantined(build_examples(decoded.batch, queries), decoded.batch.type > 0)
    assert example_content_hashes(examples).tolist() == hashes.tolist(), "recovery finds other contents"
    assert event_content_hashes(decoded.events).tolist() == hashes.tolist(), "HTTP finds other contents"
    assert (hashes > 0).all()
    return [int(content) for content in hashes]


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (CLICK, {"user_id": "u2"}),
        (CLICK, {"type": "cart"}),
        (CLICK, {"ts": START + 1}),
        (CLICK, {"item_id": "b"}),
        (CLICK, {"value": None}),
        (SLATE, {"items": ["b", "a"]}),
        (SLATE, {"items": ["a"]}),
        (SLATE, {"impression_id": "r2"}),
    ],
)
def test_other_content_has_another_hash(event: dict[str, Any], changes: dict[str, Any]) -> None:
    first, second, third = hash_events(event, event | changes, dict(reversed(event.items())))

    assert first == third != second


def test_hashes_spread() -> None:
    events = [CLICK | {"ts": START + i % 40, "item_id": f"i{i}"} for i in range(2000)]

    assert np.unique(hash_events(*events)).size == 2000
