"""The directory knows the id of each row, and the rows that may be recommended."""

import numpy as np

from online_models.state.item_table import ItemTable
from serving.replica.item_directory import ItemDirectory
from stream.ids import hash_id, hash_ids
from stream.records.catalog import Catalog
from stream.records.item_ids import encode_ids
from stream.testing import memory_system
from stream.topics import ITEMS


class Directory:
    """A directory over a catalog in memory and an item table."""

    def __init__(self, catalog_only: bool = False) -> None:
        self.log = memory_system().log
        self.catalog = Catalog(self.log)
        self.items = ItemTable()
        self.directory = ItemDirectory(self.catalog, catalog_only)

    def put(self, item_id: str, value: bytes | None) -> None:
        self.log.append(ITEMS, 0, [(item_id.encode(), value)])
        self.directory.apply(self.catalog.poll(), self.items)

    def add_rows(self, *item_ids: str) -> None:
        """Add rows without ids, as the catalog does."""
        self.items.add_keys(hash_ids(item_ids))
        self.directory.add_rows(self.items)

    def name(self, *item_ids: str) -> None:
        """Name items in events: their rows get ids."""
        ids = encode_ids(hash_ids(item_ids), item_ids)
        self.items.add_named(ids.key, max_rows=10_000)
        rows = self.items.lookup(ids.key)
        self.items.ids.add(rows, ids)
        self.items.counters["total_counts"][rows, 2] += 1
        self.directory.add_rows(self.items)
        self.directory.refresh_named(self.items, rows)

    @property
    def eligible_ids(self) -> list[str]:
        return self.directory.get_item_ids(np.flatnonzero(self.directory.eligible))


def test_items_and_rows_arrive_in_any_order() -> None:
    directory = Directory()
    directory.put("a", b'{"item_id":"a"}')
    directory.add_rows("a", "b", "c")
    directory.put("b", b'{"item_id":"b"}')

    assert directory.eligible_ids == ["a", "b"]
    assert directory.directory.get_item_ids(np.arange(3)) == ["a", "b", ""]


def test_deleted_and_unavailable_items_are_not_eligible() -> None:
    directory = Directory()
    for item_id in ("a", "b", "c"):
        directory.put(item_id, b'{"item_id":"%s"}' % item_id.encode())
    directory.add_rows("a", "b", "c")
    directory.put("a", None)
    directory.put("b", b'{"item_id":"b","available":false}')

    assert directory.eligible_ids == ["c"]


def test_reset_replaces_all_rows() -> None:
    directory = Directory()
    directory.put("a", b'{"item_id":"a"}')
    directory.add_rows("a", *(f"x{n}" for n in range(3000)))
    directory.items = ItemTable()
    directory.items.add_keys(np.array([hash_id("b"), hash_id("a")], np.uint64))
    directory.directory.reset(directory.items)

    assert directory.directory.get_item_ids(np.arange(2)) == ["", "a"]
    assert np.flatnonzero(directory.directory.eligible).tolist() == [1]


def test_named_items_are_eligible_without_a_catalog() -> None:
    directory = Directory()
    directory.name("a", "日本")
    directory.add_rows("without an id")

    assert directory.eligible_ids == ["a", "日本"]


def test_catalog_only_leaves_out_named_items() -> None:
    directory = Directory(catalog_only=True)
    directory.name("a", "b")
    directory.put("b", b'{"item_id":"b"}')

    assert directory.eligible_ids == ["b"]


def test_named_item_follows_the_catalog() -> None:
    directory = Directory()
    directory.name("a")
    directory.put("a", b'{"item_id":"a","available":false}')
    unavailable = directory.eligible_ids
    directory.put("a", None)
    directory.name("a")
    deleted = directory.eligible_ids
    directory.put("a", b'{"item_id":"a"}')

    assert (unavailable, deleted, directory.eligible_ids) == ([], [], ["a"])


def test_named_item_is_new_after_two_events_among_many() -> None:
    directory = Directory()
    directory.name(*(f"x{n}" for n in range(1_001)))
    directory.name("a", "b")
    directory.name("b")
    a, b = directory.items.lookup(hash_ids(["a", "b"])).tolist()

    assert directory.directory.eligible[[a, b]].tolist() == [1, 1]
    assert directory.directory.is_new_eligible[[a, b]].tolist() == [0, 1]


def test_truncated_rows_are_forgotten() -> None:
    directory = Directory()
    directory.put("b", b'{"item_id":"b"}')
    directory.add_rows("a", "b")
    directory.items.truncate(1)
    directory.directory.truncate(1)
    directory.add_rows("c", "b")

    assert directory.eligible_ids == ["b"]
    assert directory.directory.get_item_ids(np.arange(3)) == ["", "", "b"]
