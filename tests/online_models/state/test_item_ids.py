"""Ids of items by row: set once, published as changes, restored with the same bits."""

import numpy as np

from online_models.state.item_ids import ItemIdTable
from online_models.state.item_table import ItemTable
from stream.ids import hash_ids
from stream.records.item_ids import encode_ids

NAMES = ["a", "日本", "x" * 256, "b c"]


def add_names(table: ItemIdTable, rows: list[int], names: list[str]) -> None:
    table.add(np.array(rows, np.int32), encode_ids(hash_ids(names), names))


def test_ids_come_back_by_row() -> None:
    table = ItemIdTable()
    add_names(table, [5, 0, 3_000, -1], NAMES)
    add_names(table, [0, 1], ["other", "c"])

    assert table.get(np.array([5, 0, 3_000, 1, 2, -1, 9_999])) == ["a", "日本", "x" * 256, "c", "", "", ""]


def test_first_of_equal_rows_is_stored() -> None:
    table = ItemIdTable()
    add_names(table, [2, 2], ["a", "b"])

    assert table.get(np.array([2])) == ["a"]


def test_changes_and_state_give_the_same_bits() -> None:
    table, replica, restored = ItemIdTable(), ItemIdTable(), ItemIdTable()
    for rows, names in (([0, 1], ["a", "b"]), ([], []), ([1, 4], ["late", "d"])):
        add_names(table, rows, names)
        replica.apply(table.changes())
    restored.restore(table.state())

    for copy in (replica, restored):
        assert {name: array.tolist() for name, array in copy.state().items()} == {
            name: array.tolist() for name, array in table.state().items()
        }
    assert table.changes()["rows"].tolist() == []


def test_state_of_an_older_version_has_no_ids() -> None:
    items = ItemTable()
    items.add_keys(hash_ids(["a"]))
    state = {name: array for name, array in items.state().items() if not name.startswith(("ids.", "named"))}
    del state["catalog.status"]
    items.restore(state)
    items.apply({name: array for name, array in items.changes().items() if not name.startswith(("ids.", "named"))})

    assert items.ids.get(np.array([0])) == [""]
    assert items.catalog["status"][0] == 0


def test_named_items_have_a_limit() -> None:
    items, keys = ItemTable(), hash_ids([f"i{n}" for n in range(9)])
    items.add_keys(keys[:2])  # of the catalog: they do not count

    assert items.add_named(keys[[2, 3, 2]], max_rows=4) == 0
    assert items.add_named(keys[[0, 4, 4, 5, 6, 7]], max_rows=4) == 2
    assert items.add_named(keys[[0, 2, 8]], max_rows=4) == 1
    assert items.lookup(keys).tolist() == [0, 1, 2, 3, 4, 5, -1, -1, -1]
