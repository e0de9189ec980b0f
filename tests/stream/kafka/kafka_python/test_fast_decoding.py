"""Batches are unpacked as kafka-python would, only faster; joins are finished however short the polls."""

import struct
import time
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.drivers import open_log
from stream.kafka.kafka_python import fast_decoding as kafka_unpacking
from stream.kafka.kafka_python import rejoin_patch as kafka_joining
from stream.kafka.kafka_python.client import PlainMember
from stream.kafka.kafka_python.connections import errors, member, reader
from stream.kafka.kafka_python.fast_decoding import _rows, _unpack
from stream.kafka.url import parse_url

RECORD = st.tuples(
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=3_000),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=100)), max_size=3),
    st.integers(0, 1 << 45),
)


def batch_of(
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]], codec: int
) -> bytes:
    from kafka.record.default_records import DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
    for offset, (key, value, headers, ts) in enumerate(records):
        builder.append(offset, ts, key, value, headers)
    return bytes(builder.build())


def unpacked(data: bytes) -> list[tuple[int, bytes | None, bytes | None, int]]:
    from kafka.record.default_records import DefaultRecordBatch

    return [tuple(row) for row in _rows(DefaultRecordBatch(data))]  # type: ignore[misc]


@given(st.lists(RECORD, min_size=1, max_size=20), st.sampled_from([0, 1]))
def test_what_was_packed_comes_out(
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]], codec: int
) -> None:
    expected = [(offset, key, value, ts) for offset, (key, value, _, ts) in enumerate(records)]

    assert unpacked(batch_of(records, codec)) == expected


def test_the_broker_times_a_whole_batch() -> None:
    data = bytearray(batch_of([(b"k", b"v", [], 5), (b"k", b"v", [], 9)], 0))
    (attributes,) = struct.unpack_from(">h", data, 21)
    struct.pack_into(">h", data, 21, attributes | 0x08)  # LogAppendTime

    assert [ts for *_, ts in unpacked(bytes(data))] == [9, 9]


@given(st.binary(max_size=300), st.integers(1, 20))
def test_nothing_makes_it_read_beyond_what_is_there(data: bytes, count: int) -> None:
    end = _unpack(np.frombuffer(data, np.uint8), np.empty((6, count), np.int64))

    assert -1 <= end <= len(data)


@given(st.integers(1, 400))
def test_a_batch_that_was_cut_short_is_told(cut: int) -> None:
    data = batch_of([(b"key", b"value" * 20, [], 1)] * 4, 0)
    whole = len(data)

    with pytest.raises((errors.CorruptRecordError, struct.error)):
        unpacked(data[: whole - min(cut, whole)])


def test_both_mends_are_in_place_in_this_version_of_the_library(kafka_url: str) -> None:
    """Else each consumer is slow, and some wait for ever: see the two modules."""
    brokers = parse_url(kafka_url)
    for client in (reader(brokers), member(brokers, f"{uuid4()}", None)):
        assert client._fetcher.PartitionRecords is kafka_unpacking._Unpacked
        if client.config["group_id"]:
            assert type(client._coordinator) is kafka_joining._Coordinator
        client.close()


def test_a_join_is_finished_however_short_the_polls(kafka_url: str) -> None:
    log, prefix = open_log(kafka_url, f"{uuid4()}."), uuid4()
    log.create("events", 1)
    topic = log._topics.name("events")  # type: ignore[attr-defined]
    for n in range(8):
        joining = PlainMember(parse_url(kafka_url), topic, f"{prefix}-{n}", None)
        joining.join()
        deadline = time.monotonic() + 8
        while not joining.held():
            assert time.monotonic() < deadline, f"group {n} was never joined"
            joining.poll(1, 0.003)
            time.sleep(0.003)
        joining.close()
    log.close()
