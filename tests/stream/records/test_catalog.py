"""The catalogue is the items topic, whole."""

import msgspec
import pytest

from stream.ids import key_of
from stream.logs import Record
from stream.records.catalog import Catalogue, parse_item, read_items
from stream.testing import MemoryLog
from stream.topics import ITEMS


def item(name: str, **fields: object) -> Record:
    return name.encode(), msgspec.json.encode({"item_id": name} | fields)


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog()
    log.create(ITEMS, 1, compacted=True)
    return log


def test_the_newest_record_of_an_item_counts(log: MemoryLog) -> None:
    catalogue = Catalogue(log)
    log.append(ITEMS, 0, [item("a", price=1), item("b"), item("a", price=2, colour="red"), (b"b", None)])
    changes = catalogue.poll()

    assert len(changes) == 4
    assert len(catalogue) == 1
    assert catalogue.json(key_of("a")) == {"item_id": "a", "price": 2, "colour": "red"}
    assert catalogue.get(key_of("b")) is catalogue.json(key_of("b")) is None
    assert catalogue.poll() == []


def test_a_catalogue_that_starts_late_is_the_same(log: MemoryLog) -> None:
    early = Catalogue(log)
    for n in range(50):
        log.append(ITEMS, 0, [item(f"i{n % 7}", price=n), (f"i{n % 3}".encode(), None)])
        early.poll()
    log.compact(ITEMS, before=1 << 60)
    late = Catalogue(log)
    late.poll()

    assert [late.json(key_of(f"i{n}")) for n in range(7)] == [early.json(key_of(f"i{n}")) for n in range(7)]
    assert late.next == early.next


@pytest.mark.parametrize(
    "value", [b"no json", b"[]", b"{}", b"[" * 100_000, b'{"item_id":""}', b'{"item_id":"a","price":-1}', b"\xff"]
)
def test_what_is_no_item_is_refused_and_passed_over(log: MemoryLog, value: bytes) -> None:
    log.append(ITEMS, 0, [(b"a", value), (None, b'{"item_id":"x"}'), item("b")])
    catalogue = Catalogue(log)
    catalogue.poll()

    assert len(catalogue) == 1
    with pytest.raises(ValueError, match=r"item|price"):
        parse_item(value)


def test_items_are_read_up_to_an_offset(log: MemoryLog) -> None:
    log.append(ITEMS, 0, [item(f"i{n}") for n in range(10)])
    read = list(read_items(log, 2, before=5))

    assert [(next_, [change.item.item_id for change in changes if change.item]) for next_, changes in read] == [
        (5, ["i2", "i3", "i4"])
    ]


def test_records_of_a_key_that_is_no_text_are_passed_over(log: MemoryLog) -> None:
    log.append(ITEMS, 0, [(b"\xff", b'{"item_id":"x"}'), item("b")])
    catalogue = Catalogue(log)
    catalogue.poll()

    assert len(catalogue) == 1
