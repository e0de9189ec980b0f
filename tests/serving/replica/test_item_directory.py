"""The directory knows the id of each row, and the rows that may be recommended."""

import numpy as np

from serving.replica.item_directory import ItemDirectory
from stream.ids import hash_id
from stream.records.catalog import Catalog, CatalogChange, read_items
from stream.testing import MemoryLog
from stream.topics import ITEMS


class Directory:
    """A directory over a catalog in memory."""

    def __init__(self) -> None:
        self.log = MemoryLog({ITEMS: []})
        self.catalog = Catalog(self.log)
        self.directory = ItemDirectory(self.catalog)
        self.keys: list[int] = []

    def put(self, item_id: str, value: bytes | None) -> None:
        """Write an item and apply the change."""
        self.log.append(ITEMS, 0, [(item_id.encode(), value)])
        changes: list[CatalogChange] = self.catalog.apply(list(read_items(self.log, self.catalog.next_offset)))
        rows = [self.keys.index(change.key) if change.key in self.keys else -1 for change in changes]
        self.directory.apply(changes, np.array(rows, np.int32))

    def add_rows(self, *item_ids: str) -> None:
        """Add model rows for these items."""
        self.keys += [hash_id(item_id) for item_id in item_ids]
        self.directory.add_rows(np.array(self.keys, np.uint64))

    @property
    def eligible_ids(self) -> list[str]:
        rows = np.flatnonzero(self.directory.eligible[: len(self.keys)])
        return self.directory.get_item_ids(rows)


def test_items_before_and_after_their_rows_are_eligible() -> None:
    directory = Directory()
    directory.put("a", b'{"item_id":"a"}')
    directory.add_rows("a", "b", "c")
    directory.put("b", b'{"item_id":"b"}')

    assert directory.eligible_ids == ["a", "b"]
    assert directory.directory.get_item_ids(np.arange(3)) == ["a", "b", ""]


def test_deleted_and_unavailable_items_are_not_eligible() -> None:
    directory = Directory()
    for item_id in "abc":
        directory.put(item_id, b'{"item_id":"%s"}' % item_id.encode())
    directory.add_rows("a", "b", "c")
    directory.put("a", None)
    directory.put("b", b'{"item_id":"b","available":false}')

    assert directory.eligible_ids == ["c"]


def test_rows_of_another_model_replace_all_rows() -> None:
    directory = Directory()
    directory.put("a", b'{"item_id":"a"}')
    directory.add_rows("a", *(f"x{n}" for n in range(3000)))
    directory.keys = [hash_id("b"), hash_id("a")]
    directory.directory.reset(np.array(directory.keys, np.uint64))

    assert directory.directory.get_item_ids(np.arange(2)) == ["", "a"]
    assert np.flatnonzero(directory.directory.eligible).tolist() == [1]
