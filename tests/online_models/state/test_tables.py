"""A table is a dict of rows, and its changes carry the same bits to another one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online_models.state.tables import Column, State, Table, prefix_states, substate

COLUMNS = {"clicks": Column("float32"), "vector": Column("float32", (3,), fill=0.5)}
KEYS = st.lists(st.integers(1, 30), max_size=12)
CALLS = st.lists(st.tuples(st.sampled_from(["admit", "free", "write", "follow"]), KEYS), max_size=25)


def keys(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def bits(state: State) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in state.items()}


def copied(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


@given(CALLS)
def test_a_table_is_a_dict_and_its_followers_hold_the_same_bits(calls: list[tuple[str, list[int]]]) -> None:
    table, follower = Table(COLUMNS, capacity=2), Table(COLUMNS, capacity=2)
    model: dict[int, float] = {}
    for number, (call, named) in enumerate(calls):
        distinct = list(dict.fromkeys(named))
        if call == "admit":
            table.add_keys(keys(*named))
            model |= {key: 0.0 for key in distinct if key not in model}
        elif call == "free":
            gone = [key for key in distinct if key in model]
            table.free(table.lookup(keys(*gone)))
            model = {key: value for key, value in model.items() if key not in gone}
        elif call == "write":
            held = [key for key in distinct if key in model]
            rows = table.lookup(keys(*held))
            table["clicks"][rows] = number
            table.mark_changed(rows)
            model |= dict.fromkeys(held, float(number))
        else:
            follower.apply(table.changes())
            late = Table(COLUMNS)
            late.restore(copied(table.state()))

            assert bits(follower.state()) == bits(late.state()) == bits(table.state())
            # The next new keys take the same rows in all three.
            assert follower._free_rows.tolist() == late._free_rows.tolist() == table._free_rows.tolist()

        rows = table.lookup(keys(*model))

        assert (rows >= 0).all()
        assert table["clicks"][rows].tolist() == list(model.values())
        assert table.keys[rows].tolist() == list(model)
        assert (table.lookup(keys(*(key for key in range(1, 31) if key not in model))) == -1).all()


def test_a_freed_row_is_blank_and_taken_again_lowest_first() -> None:
    table = Table(COLUMNS)
    rows = table.add_keys(keys(1, 2, 3))
    table["vector"][rows] = 9
    table.free(rows[:2])

    assert table.add_keys(keys(7, 8, 9)).tolist() == [0, 1, 3]
    assert table["vector"][0].tolist() == [0.5, 0.5, 0.5]


def test_changes_are_told_once() -> None:
    table = Table(COLUMNS)
    table.add_keys(keys(1, 2))

    assert table.changes()["keys"].tolist() == [1, 2]
    assert table.changes()["keys"].tolist() == []


def test_a_column_that_a_state_lacks_starts_from_its_fill() -> None:
    old = Table({"clicks": COLUMNS["clicks"]})
    old.add_keys(keys(5))
    new = Table(COLUMNS)
    new.restore(old.state())

    assert new["vector"][:1].tolist() == [[0.5, 0.5, 0.5]]
    assert new.lookup(keys(5)).tolist() == [0]


def test_a_column_that_changes_lack_stays_as_it_is() -> None:
    table, follower = Table(COLUMNS), Table(COLUMNS)
    for each in (table, follower):
        each.add_keys(keys(5))
    table["clicks"][0], table["vector"][0] = 3, 7
    follower.apply({name: array for name, array in table.changes().items() if name != "vector"})

    assert follower["clicks"][0] == 3
    assert follower["vector"][0].tolist() == [0.5, 0.5, 0.5]


def test_a_key_that_moved_to_another_row_is_followed() -> None:
    table, follower = Table(COLUMNS), Table(COLUMNS)
    table.add_keys(keys(1, 2))
    follower.apply(table.changes())
    table.free(table.lookup(keys(1, 2)))
    table.add_keys(keys(2, 1))
    follower.apply(table.changes())

    assert follower.lookup(keys(1, 2)).tolist() == [1, 0]


def test_names_that_say_which_row_are_taken() -> None:
    with pytest.raises(ValueError, match="must not be named"):
        Table({"keys": Column("int64")})


def test_parts_of_a_state_keep_their_names() -> None:
    state = prefix_states({"a": {"x": np.zeros(1), "y.z": np.ones(2)}, "ab": {"x": np.ones(3)}})

    assert {name: array.size for name, array in substate(state, "a").items()} == {"x": 1, "y.z": 2}
