import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from online_models.state.embeddings import EmbeddingSettings, EmbeddingTable
from online_models.state.tables import State
from stream.ids import lookup_row
from stream.jit import kernel

Call = tuple[list[int], int]  # keys, seconds since the previous call


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def copy_state(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def assert_same_bits(left: EmbeddingTable, right: EmbeddingTable) -> None:
    expected, state = left.state(), right.state()
    assert expected.keys() == state.keys()
    for name in expected:
        assert expected[name].tobytes() == state[name].tobytes(), name


def test_each_id_has_its_own_row() -> None:
    table = EmbeddingTable(EmbeddingSettings(dim=4))

    rows = table.add_keys(np.arange(1, 50_001, dtype=np.uint64), now=0)

    assert np.unique(rows).size == 50_000
    assert np.unique(table.rows[rows], axis=0).shape == (50_000, 5)


def test_new_vectors_have_the_requested_scale() -> None:
    table = EmbeddingTable(EmbeddingSettings(dim=8, scale=0.5))
    rows = table.add_keys(np.arange(1, 20_001, dtype=np.uint64), now=0)

    vectors = table.rows[rows, :8]

    assert abs(vectors.mean()) < 0.01
    assert abs(vectors.std() - 0.5) < 0.01
    assert abs(np.corrcoef(vectors.T) - np.eye(8)).max() < 0.05


def test_new_vector_depends_on_key_and_seed_alone() -> None:
    first, second, other = (EmbeddingTable(EmbeddingSettings(seed=seed)) for seed in (3, 3, 4))
    first.add_keys(keys(5, 7), now=0)
    second.add_keys(keys(7, 9), now=0)
    other.add_keys(keys(7), now=0)

    assert np.array_equal(first.rows[first.lookup(keys(7))], second.rows[second.lookup(keys(7))])
    assert not np.array_equal(first.rows[first.lookup(keys(7))], other.rows[other.lookup(keys(7))])


def test_missing_key_has_no_row() -> None:
    for min_count in (1, 2):
        table = EmbeddingTable(EmbeddingSettings(min_count=min_count))

        assert [table.add_keys(keys(0), now=0).tolist() for _ in range(4)] == [[-1]] * 4
        assert len(table) == 0


@pytest.mark.parametrize("calls", [[[7, 7, 7, 7]], [[7, 7], [7, 7]], [[7]] * 4], ids=["one", "two", "four"])
def test_nth_occurrence_adds_the_row_in_any_batching(calls: list[list[int]]) -> None:
    table = EmbeddingTable(EmbeddingSettings(min_count=3))

    rows = [row for call in calls for row in table.add_keys(keys(*call), now=0).tolist()]

    assert rows == [-1, -1, 0, 0]


def test_lookup_counts_no_occurrence() -> None:
    table = EmbeddingTable(EmbeddingSettings(min_count=2, expire_after=10.0))
    table.add_keys(keys(7), now=0)

    table.lookup(keys(7, 7, 7))

    assert table.lookup(keys(7)).tolist() == [-1]


def test_expired_row_is_reused_as_if_new() -> None:
    table = EmbeddingTable(EmbeddingSettings(dim=2, expire_after=10.0), extra=(2.0,))
    row = table.add_keys(keys(7), now=1_000)
    table.rows[row] = 5
    table.add_keys(keys(8), now=9_000)

    again = table.add_keys(keys(9), now=12_000)
    fresh = EmbeddingTable(table.settings, extra=(2.0,))
    fresh.add_keys(keys(9), now=0)

    assert table.lookup(keys(7, 8)).tolist() == [-1, 1]
    assert again.tolist() == row.tolist()
    assert table.rows[again, 2:].tolist() == [[1.0, 2.0]]
    assert np.array_equal(table.rows[again], fresh.rows[:1])


def test_recurring_id_keeps_its_row() -> None:
    table = EmbeddingTable(EmbeddingSettings(expire_after=10.0))

    rows = [table.add_keys(keys(7), now).tolist() for now in range(0, 100_000, 9_000)]

    assert rows == [[0]] * len(rows)


def test_rare_occurrences_add_no_row() -> None:
    table = EmbeddingTable(EmbeddingSettings(min_count=2, expire_after=10.0))

    rows = [table.add_keys(keys(7), now).tolist() for now in (0, 20_000, 40_000, 41_000)]

    assert rows == [[-1], [-1], [-1], [0]]


def test_time_never_decreases() -> None:
    table = EmbeddingTable(EmbeddingSettings(expire_after=10.0))
    table.add_keys(keys(7), now=50_000)
    table.add_keys(keys(8), now=1_000)

    table.add_keys(keys(9), now=55_000)

    assert table.lookup(keys(8)).tolist() == [1]


def test_zero_means_no_expiry() -> None:
    table = EmbeddingTable(EmbeddingSettings(expire_after=0.0))
    table.add_keys(keys(7), now=0)

    table.add_keys(keys(8), now=10**15)

    assert table.lookup(keys(7)).tolist() == [0]


def test_kernel_finds_rows() -> None:
    table = EmbeddingTable(EmbeddingSettings())
    table.add_keys(keys(7, 8), now=0)

    @kernel
    def find(slot_keys: np.ndarray, slot_rows: np.ndarray, key: np.uint64) -> int:
        return lookup_row(slot_keys, slot_rows, key)

    assert find(*table.slots, np.uint64(8)) == 1


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    calls=st.lists(st.tuples(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 9)), max_size=20),
    min_count=st.integers(1, 3),
    restore_step=st.integers(0, 20),
)
def test_restored_table_and_replica_have_the_same_bits(calls: list[Call], min_count: int, restore_step: int) -> None:
    settings = EmbeddingSettings(dim=2, min_count=min_count, expire_after=12.0)
    table, replica, restored = EmbeddingTable(settings), EmbeddingTable(settings), EmbeddingTable(settings)
    now = 0
    for step, (names, seconds) in enumerate(calls):
        now += 1000 * seconds
        if step == restore_step:
            restored.restore(copy_state(table.state()))
        rows = table.add_keys(np.array(names, np.uint64), now)
        table.rows[rows[rows >= 0]] += 1
        if step >= restore_step:
            again = restored.add_keys(np.array(names, np.uint64), now)
            restored.rows[again[again >= 0]] += 1
        if step % 3 == 2:
            replica.apply(copy_state(table.changes()))
    replica.apply(copy_state(table.changes()))

    assert_same_bits(table, replica)
    assert len(calls) <= restore_step or table.state()["rows.row"].tobytes() == restored.state()["rows.row"].tobytes()
    all_keys = np.arange(41, dtype=np.uint64)
    assert table.lookup(all_keys).tolist() == replica.lookup(all_keys).tolist()
    replica_rows, rows = replica.add_keys(all_keys, now + 30_000), table.add_keys(all_keys, now + 30_000)
    assert replica_rows.tolist() == rows.tolist()
    assert_same_bits(table, replica)


@pytest.mark.parametrize(
    "bad",
    [
        {"dim": 0},
        {"min_count": 0},
        {"expire_after": -1.0},
        {"expire_after": float("nan")},
        {"scale": -1.0},
        {"seed": -1},
    ],
    ids=str,
)
def test_settings_reject_bad_values(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        EmbeddingSettings(**bad)  # type: ignore[arg-type]
