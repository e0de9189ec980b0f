"""Fast decoding equals that of kafka-python, and joins complete with short polls."""

import struct
import time
from uuid import uuid4

import crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import errors

from stream.drivers import open_log
from stream.kafka.kafka_python.client import KafkaPythonConsumer
from stream.kafka.kafka_python.connections import TopicAndPartition, create_consumer, create_reader
from stream.kafka.kafka_python.fast_decoding import (
    FastPartitionRecords,
    decode_batch,
    decode_offsets,
    is_decoding_patched,
)
from stream.kafka.kafka_python.rejoin_patch import is_rejoin_patched
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


def decode_rows(data: bytes) -> list[tuple[int, bytes | None, bytes | None, int]]:
    from kafka.record.default_records import DefaultRecordBatch

    return [(row.offset, row.key, row.value, row.timestamp) for row in decode_batch(DefaultRecordBatch(data))]


@given(st.lists(RECORD, min_size=1, max_size=20), st.sampled_from([0, 1]))
def test_record_batch_round_trips(
    records: list[tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]], int]], codec: int
) -> None:
    expected = [(offset, key, value, ts) for offset, (key, value, _, ts) in enumerate(records)]

    assert decode_rows(encode_batch(records, codec)) == expected


def test_log_append_time_applies_to_the_whole_batch() -> None:
    data = bytearray(encode_batch([(b"k", b"v", [], 5), (b"k", b"v", [], 9)], 0))
    (attributes,) = struct.unpack_from(">h", data, 21)
    struct.pack_into(">h", data, 21, attributes | 0x08)  # LogAppendTime

    assert [ts for *_, ts in decode_rows(bytes(data))] == [9, 9]


@given(st.binary(max_size=300), st.integers(1, 20))
def test_decoder_never_reads_past_the_buffer(data: bytes, count: int) -> None:
    end = decode_offsets(np.frombuffer(data, np.uint8), np.empty((6, count), np.int64))

    assert -1 <= end <= len(data)


@given(st.integers(1, 400))
def test_truncated_batch_raises_an_error(cut: int) -> None:
    data = encode_batch([(b"key", b"value" * 20, [], 1)] * 4, 0)
    size = len(data)

    with pytest.raises((errors.CorruptRecordError, struct.error)):
        decode_rows(data[: size - min(cut, size)])


@pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])
@pytest.mark.parametrize("damage", ["checksum", "content"])
def test_damaged_batch_error_names_the_place_and_the_way_out(codec: int, damage: str) -> None:
    from kafka.record.memory_records import MemoryRecords

    data = bytearray(encode_batch([(b"key", b"value" * 50, [], 1)] * 4, codec))
    data[61:] = bytes(len(data) - 61)  # the compressed records
    if damage == "content":
        struct.pack_into(">I", data, 17, crc32c.crc32c(bytes(data[21:])))
    records = FastPartitionRecords(0, TopicAndPartition("events", 3), MemoryRecords(bytes(data)))

    with pytest.raises(OSError, match=r"topic events, partition 3, offset 0 cannot be read .*kafka-delete-records"):
        records.take(10)


def test_both_library_patches_are_applied(kafka_url: str) -> None:
    """Without them, each consumer is slow and some wait forever.

    A new version of the library can break them.
    """
    kafka_settings = parse_url(kafka_url)
    for client in (create_reader(kafka_settings), create_consumer(kafka_settings, f"{uuid4()}", None)):
        patches = is_decoding_patched(client), is_rejoin_patched(client)
        client.close()

        assert patches == (True, client.config["group_id"] is not None)


def test_join_completes_with_short_polls(kafka_url: str) -> None:
    prefix = f"{uuid4()}."
    log = open_log(kafka_url, prefix)
    log.create("events", 1)
    for n in range(8):
        consumer = KafkaPythonConsumer(parse_url(kafka_url), f"{prefix}events", f"{prefix}{n}", None)
        consumer.join()
        deadline = time.monotonic() + 8
        while not consumer.assignment():
            assert time.monotonic() < deadline, f"the consumer never joined group {n}"
            consumer.poll(1, 0.003)
            time.sleep(0.003)
        consumer.close()
    log.close()
