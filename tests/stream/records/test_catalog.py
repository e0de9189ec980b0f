"""Catalog equals the newest records of the items topic."""

import msgspec
import pytest
from prometheus_client import REGISTRY

from stream.ids import hash_id
from stream.logs import Record
from stream.records.catalog import Catalog, Item, parse_item, read_items
from stream.testing import MemoryLog
from stream.topics import ITEMS


def make_item(name: str, **fields: object) -> Record:
    return name.encode(), msgspec.json.encode({"item_id": name} | fields)


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.create(ITEMS, 1, compacted=True)
    return log


def test_newest_record_of_an_item_wins(log: MemoryLog) -> None:
    catalog = Catalog(log)
    log.append(
        ITEMS, 0, [make_item("a", price=1), make_item("b"), make_item("a", price=2, fabric="silk"), (b"b", None)]
    )
    changes = catalog.poll()

    assert len(changes) == 4
    assert len(catalog) == 1
    assert catalog.json(hash_id("a")) == {"item_id": "a", "price": 2, "fabric": "silk"}
    assert (catalog.get(hash_id("b")), catalog.json(hash_id("b"))) == (None, None)
    assert catalog.poll() == []


def test_catalog_read_after_compaction_is_the_same(log: MemoryLog) -> None:
    early = Catalog(log)
    for n in range(50):
        log.append(ITEMS, 0, [make_item(f"i{n % 7}", price=n), (f"i{n % 3}".encode(), None)])
        early.poll()
    log.compact(ITEMS, before=1 << 60)
    late = Catalog(log)
    late.poll()

    assert [late.json(hash_id(f"i{n}")) for n in range(7)] == [early.json(hash_id(f"i{n}")) for n in range(7)]
    assert late.next_offset == early.next_offset


@pytest.mark.parametrize(
    "value", [b"no json", b"[]", b"{}", b"[" * 100_000, b'{"item_id":""}', b'{"item_id":"a","price":-1}', b"\xff"]
)
def test_invalid_item_is_rejected_and_skipped(log: MemoryLog, value: bytes) -> None:
    log.append(ITEMS, 0, [(b"a", value), (None, b'{"item_id":"x"}'), make_item("b")])
    catalog = Catalog(log)
    catalog.poll()

    assert len(catalog) == 1
    with pytest.raises(ValueError, match=r"item|price"):
        parse_item(value)


def test_items_are_read_up_to_an_offset(log: MemoryLog) -> None:
    log.append(ITEMS, 0, [make_item(f"i{n}") for n in range(10)])
    batches = list(read_items(log, 2, end=5))

    assert [
        (next_offset, [change.item.item_id for change in changes if change.item]) for next_offset, changes in batches
    ] == [(5, ["i2", "i3", "i4"])]


def test_record_with_a_non_utf8_key_is_skipped(log: MemoryLog) -> None:
    log.append(ITEMS, 0, [(b"\xff", b'{"item_id":"x"}'), make_item("b")])
    catalog = Catalog(log)
    catalog.poll()

    assert len(catalog) == 1


def test_invalid_items_are_counted_and_logged(log: MemoryLog, caplog: pytest.LogCaptureFixture) -> None:
    log.append(
        ITEMS, 0, [(b"a", b'{"item_id":"a"}'), (b"b", b"{}"), (b"c", b'{"item_id":"c","price":-1}'), (None, b"{}")]
    )
    before = count_invalid()
    [(_, changes)] = read_items(log, 0)

    assert [change.item.item_id for change in changes if change.item] == ["a"]
    assert count_invalid() - before == 3
    assert (
        "skipped 3 invalid records of topic items up to offset 3; the first one, at 1: not a valid item" in caplog.text
    )


def count_invalid() -> float:
    return REGISTRY.get_sample_value("headrace_items_invalid_total") or 0.0


@pytest.mark.parametrize("field", ["stock", "available_from", "expires_ts"])
def test_item_of_an_earlier_version_with_text_in_a_new_field_is_kept(log: MemoryLog, field: str) -> None:
    log.append(ITEMS, 0, [(b"a", msgspec.json.encode({"item_id": "a", "title": "A", field: "soon"}))])
    [(_, [change])] = read_items(log, 0)

    assert change.item == Item("a", "A")
