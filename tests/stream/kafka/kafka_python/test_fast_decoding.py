"""Batches are unpacked as kafka-python would, only faster; joins are finished however short the polls."""

import struct
import time
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors

from stream.drivers import open_log
from stream.kafka.kafka_python import fast_decoding as kafka_unpacking
from stream.kafka.kafka_python import rejoin_patch as kafka_joining
from stream.kafka.kafka_python.client import KafkaPythonConsumer
from stream.kafka.kafka_python.connections import create_consumer, create_reader
from stream.kafka.kafka_python.fast_decoding import _decode_batch, _decode_offsets
from stream.kafka.url import parse_url

RECORD = st.tuples(
    st.none() | st.binary(max_size=200),
    st.none() | st.binary(max_size=3_000),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=100)), max_size=3),
    st.integers(0, 1 << 45),
)


def encode_batch(
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]], codec: int
) -> bytes:
    from kafka.record.default_records import DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
    for offset, (key, value, headers, ts) in enumerate(records):
        builder.append(offset, ts, key, value, headers)
    return bytes(builder.build())


def decode_batch(data: bytes) -> list[tuple[int, bytes | None, bytes | None, int]]:
    from kafka.record.default_records import DefaultRecordBatch

    return [tuple(row) for row in _decode_batch(DefaultRecordBatch(data))]  # type: ignore[misc]


@given(st.lists(RECORD, min_size=1, max_size=20), st.sampled_from([0, 1]))
def test_record_batch_round_trips(
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]], codec: int
) -> None:
    expected = [(offset, key, value, ts) for offset, (key, value, _, ts) in enumerate(records)]

    assert decode_batch(encode_batch(records, codec)) == expected


def test_log_append_time_applies_to_the_whole_batch() -> None:
    data = bytearray(encode_batch([(b"k", b"v", [], 5), (b"k", b"v", [], 9)], 0))
    (attributes,) = struct.unpack_from(">h", data, 21)
    struct.pack_into(">h", data, 21, attributes | 0x08)  # LogAppendTime

    assert [ts for *_, ts in decode_batch(bytes(data))] == [9, 9]


@given(st.binary(max_size=300), st.integers(1, 20))
def test_decoder_never_reads_past_the_buffer(data: bytes, count: int) -> None:
    end = _decode_offsets(np.frombuffer(data, np.uint8), np.empty((6, count), np.int64))

    assert -1 <= end <= len(data)


@given(st.integers(1, 400))
def test_truncated_batch_raises_an_error(cut: int) -> None:
    data = encode_batch([(b"key", b"value" * 20, [], 1)] * 4, 0)
    size = len(data)

    with pytest.raises((errors.CorruptRecordError, struct.error)):
        decode_batch(data[: size - min(cut, size)])


def test_both_library_patches_are_applied(kafka_url: str) -> None:
    """Else each consumer is slow, and some wait for ever: see the two modules."""
    kafka_settings = parse_url(kafka_url)
    for client in (create_reader(kafka_settings), create_consumer(kafka_settings, f"{uuid4()}", None)):
        assert client._fetcher.PartitionRecords is kafka_unpacking._FastPartitionRecords
        if client.config["group_id"]:
            assert type(client._coordinator) is kafka_joining._PatchedCoordinator
        client.close()


def test_join_completes_with_short_polls(kafka_url: str) -> None:
    log, prefix = open_log(kafka_url, f"{uuid4()}."), uuid4()
    log.create("events", 1)
    topic = log._topics.name("events")  # type: ignore[attr-defined]
    for n in range(8):
        consumer = KafkaPythonConsumer(parse_url(kafka_url), topic, f"{prefix}-{n}", None)
        consumer.join()
        deadline = time.monotonic() + 8
        while not consumer.assignment():
            assert time.monotonic() < deadline, f"group {n} was never joined"
            consumer.poll(1, 0.003)
            time.sleep(0.003)
        consumer.close()
    log.close()
