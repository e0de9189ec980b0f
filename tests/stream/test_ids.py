"""Ids become keys, keys find rows, and other people's producers agree on partitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.ids import NO_KEY, KeyIndex, key_of, keys_of, partition_of

# What Kafka's DefaultPartitioner gives, from org.apache.kafka.common.utils.UtilsTest: murmur2 of the bytes.
MURMUR2 = {"21": -973932308, "foobar": -790332482, "a-little-bit-long-string": -985981536, "abc": 479470107}

KEYS = st.integers(1, 50) | st.integers(2**63, 2**64 - 1)


def array(keys: list[int]) -> np.ndarray:
    return np.array(keys, np.uint64)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_one_key_and_many_keys_agree(name: str) -> None:
    assert keys_of([name]).tolist() == [key_of(name) if name else NO_KEY]
    assert key_of(name) != NO_KEY


@pytest.mark.parametrize("name", MURMUR2)
def test_partitions_are_those_of_kafka(name: str) -> None:
    assert partition_of(name, 1000) == (MURMUR2[name] & 0x7FFFFFFF) % 1000


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 1024))
def test_every_id_has_a_partition(name: str, partitions: int) -> None:
    assert 0 <= partition_of(name, partitions) < partitions


@given(st.lists(st.tuples(st.sampled_from(["number", "insert", "remove"]), st.lists(KEYS, max_size=30)), max_size=30))
def test_an_index_is_a_dict(calls: list[tuple[str, list[int]]]) -> None:
    index, model, used = KeyIndex(), dict[int, int](), 0
    for call, keys in calls:
        if call == "number":
            rows, fresh = index.number(array(keys), used)
            unknown = [key for key in dict.fromkeys(keys) if key not in model]
            model |= {key: used + i for i, key in enumerate(unknown)}
            used += len(unknown)

            assert fresh.tolist() == unknown
            assert rows.tolist() == [model[key] for key in keys]
        elif call == "insert":
            distinct = list(dict.fromkeys(keys))
            index.insert(array(distinct), np.arange(len(distinct)) + used)
            model |= {key: used + i for i, key in enumerate(distinct)}
            used += len(distinct)
        else:
            index.remove(array(keys))
            model = {key: row for key, row in model.items() if key not in keys}

        assert len(index) == len(model)
    asked = [*model, 51, 2**63 - 1]

    assert index.find(array(asked)).tolist() == [model.get(key, -1) for key in asked]


def test_an_index_grows() -> None:
    index, keys = KeyIndex(), np.arange(1, 100_001, dtype=np.uint64)
    index.number(keys, 0)

    assert index.find(keys).tolist() == list(range(100_000))


def test_no_key_has_no_row() -> None:
    index = KeyIndex()
    rows, fresh = index.number(array([NO_KEY, 5]), 0)

    assert (rows.tolist(), fresh.tolist()) == ([-1, 0], [5])
    assert index.find(array([NO_KEY])).tolist() == [-1]
