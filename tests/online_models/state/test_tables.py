"""A table is a dict of rows, and its changes carry the same bits to a replica."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.state.tables import Column, State, Table, prefix_states, substate

COLUMNS = {"clicks": Column("float32"), "vector": Column("float32", (3,), fill=0.5)}
KEYS = st.lists(st.integers(1, 30), max_size=12)
CALLS = st.lists(st.tuples(st.sampled_from(["add", "free", "write", "replicate"]), KEYS), max_size=25)


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def to_bits(state: State) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.items()}


def copy_state(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


@given(CALLS)
def test_table_is_a_dict_and_replicas_have_the_same_bits(calls: list[tuple[str, list[int]]]) -> None:
    table, replica = Table(COLUMNS, capacity=2), Table(COLUMNS, capacity=2)
    model: dict[int, float] = {}
    for number, (call, names) in enumerate(calls):
        distinct = list(dict.fromkeys(names))
        if call == "add":
            table.add_keys(keys(*names))
            model |= {key: 0.0 for key in distinct if key not in model}
        elif call == "free":
            freed = [key for key in distinct if key in model]
            table.free(table.lookup(keys(*freed)))
            model = {key: value for key, value in model.items() if key not in freed}
        elif call == "write":
            written = [key for key in distinct if key in model]
            rows = table.lookup(keys(*written))
            table["clicks"][rows] = number
            table.mark_changed(rows)
            model |= dict.fromkeys(written, float(number))
        else:
            replica.apply(table.changes())
            restored = Table(COLUMNS)
            restored.restore(copy_state(table.state()))

            assert to_bits(replica.state()) == to_bits(restored.state()) == to_bits(table.state())
            # The next new keys reuse the same rows in all three.
            assert replica.free_rows.tolist() == restored.free_rows.tolist() == table.free_rows.tolist()

        rows = table.lookup(keys(*model))

        assert (rows >= 0).all()
        assert table["clicks"][rows].tolist() == list(model.values())
        assert table.keys[rows].tolist() == list(model)
        assert (table.lookup(keys(*(key for key in range(1, 31) if key not in model))) == -1).all()


def test_freed_row_is_blank_and_reused_lowest_first() -> None:
    table = Table(COLUMNS)
    rows = table.add_keys(keys(1, 2, 3))
    table["vector"][rows] = 9
    table.free(rows[:2])

    assert table.add_keys(keys(7, 8, 9)).tolist() == [0, 1, 3]
    assert table["vector"][0].tolist() == [0.5, 0.5, 0.5]


def test_cleared_table_is_as_new() -> None:
    table = Table(COLUMNS)
    rows = table.add_keys(keys(1, 2, 3))
    table["vector"][rows] = 9
    table.free(rows[:1])
    table.clear()

    assert to_bits(table.state()) == to_bits(Table(COLUMNS).state())
    assert table.add_keys(keys(9, 1)).tolist() == [0, 1]
    assert table["vector"][:2].tolist() == [[0.5, 0.5, 0.5]] * 2
    assert table.changes()["keys"].tolist() == [9, 1]


def test_changes_are_reported_once() -> None:
    table = Table(COLUMNS)
    table.add_keys(keys(1, 2))

    assert table.changes()["keys"].tolist() == [1, 2]
    assert table.changes()["keys"].tolist() == []


def test_column_missing_from_the_state_gets_its_fill() -> None:
    old = Table({"clicks": COLUMNS["clicks"]})
    old.add_keys(keys(5))
    new = Table(COLUMNS)
    new.restore(old.state())

    assert new["vector"][:1].tolist() == [[0.5, 0.5, 0.5]]
    assert new.lookup(keys(5)).tolist() == [0]


def test_column_missing_from_changes_is_kept() -> None:
    table, replica = Table(COLUMNS), Table(COLUMNS)
    for each in (table, replica):
        each.add_keys(keys(5))
    table["clicks"][0], table["vector"][0] = 3, 7
    replica.apply({name: array for name, array in table.changes().items() if name != "vector"})

    assert replica["clicks"][0] == 3
    assert replica["vector"][0].tolist() == [0.5, 0.5, 0.5]


def test_replica_follows_a_key_to_another_row() -> None:
    table, replica = Table(COLUMNS), Table(COLUMNS)
    table.add_keys(keys(1, 2))
    replica.apply(table.changes())
    table.free(table.lookup(keys(1, 2)))
    table.add_keys(keys(2, 1))
    replica.apply(table.changes())

    assert replica.lookup(keys(1, 2)).tolist() == [1, 0]


def test_reserved_column_names_are_rejected() -> None:
    with pytest.raises(ValueError, match="must not be named"):
        Table({"keys": Column("int64")})


def test_parts_of_a_state_keep_their_names() -> None:
    state = prefix_states({"a": {"x": np.zeros(1), "y.z": np.ones(2)}, "ab": {"x": np.ones(3)}})

    assert {name: array.size for name, array in substate(state, "a").items()} == {"x": 1, "y.z": 2}


def test_column_that_was_narrower_keeps_its_entries() -> None:
    old, new = (Table({"vector": Column("float32", (width,), fill=-1.0)}) for width in (2, 3))
    old["vector"][old.add_keys(np.array([5, 6], np.uint64))] = [[1, 2], [3, 4]]
    old.mark_changed(np.arange(2))
    follower = Table({"vector": Column("float32", (3,), fill=-1.0)})
    new.restore(old.state())
    follower.apply(old.changes())

    for table in (new, follower):
        assert table["vector"][:2].tolist() == [[1, 2, -1], [3, 4, -1]]
