"""Ids map to keys, keys to rows, and partitions equal those of Kafka's own producers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.ids import NO_KEY, KeyIndex, hash_id, hash_ids, partition_for_id

# Expected values of Kafka's DefaultPartitioner, from org.apache.kafka.common.utils.UtilsTest.
MURMUR2 = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107}

KEYS = st.integers(1, 50) | st.integers(2**63, 2**64 - 1)


def make_keys(keys: list[int]) -> np.ndarray:
    return np.array(keys, np.uint64)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_hash_id_and_hash_ids_agree(name: str) -> None:
    assert hash_ids([name]).tolist() == [hash_id(name) if name else NO_KEY]
    assert hash_id(name) != NO_KEY


@pytest.mark.parametrize("name", MURMUR2)
def test_partitions_match_those_of_kafka(name: str) -> None:
    assert partition_for_id(name, 1000) == (MURMUR2[name] & 0x7FFFFFFF) % 1000


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 1024))
def test_every_id_has_a_partition(name: str, partitions: int) -> None:
    assert 0 <= partition_for_id(name, partitions) < partitions


@given(
    st.lists(
        st.tuples(st.sampled_from(["lookup_or_insert", "insert", "remove"]), st.lists(KEYS, max_size=30)), max_size=30
    )
)
def test_key_index_behaves_like_a_dict(calls: list[tuple[str, list[int]]]) -> None:
    index, model, n_rows = KeyIndex(), dict[int, int](), 0
    for call, keys in calls:
        if call == "lookup_or_insert":
            rows, new_keys = index.lookup_or_insert(make_keys(keys), n_rows)
            unknown = [key for key in dict.fromkeys(keys) if key not in model]
            model |= {key: n_rows + i for i, key in enumerate(unknown)}
            n_rows += len(unknown)

            assert new_keys.tolist() == unknown
            assert rows.tolist() == [model[key] for key in keys]
        elif call == "insert":
            distinct = list(dict.fromkeys(keys))
            index.insert(make_keys(distinct), np.arange(len(distinct)) + n_rows)
            model |= {key: n_rows + i for i, key in enumerate(distinct)}
            n_rows += len(distinct)
        else:
            index.remove(make_keys(keys))
            model = {key: row for key, row in model.items() if key not in keys}

        assert len(index) == len(model)
    queried = [*model, 51, 2**63 - 1]

    assert index.lookup(make_keys(queried)).tolist() == [model.get(key, -1) for key in queried]


def test_key_index_grows() -> None:
    index, keys = KeyIndex(), np.arange(1, 100_001, dtype=np.uint64)
    index.lookup_or_insert(keys, 0)

    assert index.lookup(keys).tolist() == list(range(100_000))


def test_no_key_has_no_row() -> None:
    index = KeyIndex()
    rows, new_keys = index.lookup_or_insert(make_keys([NO_KEY, 5]), 0)

    assert (rows.tolist(), new_keys.tolist()) == ([-1, 0], [5])
    assert index.lookup(make_keys([NO_KEY])).tolist() == [-1]
