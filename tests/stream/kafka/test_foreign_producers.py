"""Records of other people's producers: codecs, transactions."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from stream.clock import SystemClock
from stream.drivers import open_log
from stream.ids import partition_for_id
from stream.kafka.url import CLIENTS
from stream.logs import EventLog, Source
from stream.records.events import Event, Limits, validate
from tests.support.foreign_producers import open_producer, run_transaction

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@pytest.fixture
def prefix() -> str:
    return f"{uuid4()}."


@pytest.fixture(params=CLIENTS)
def log(request: pytest.FixtureRequest, kafka_url: str, prefix: str) -> Iterator[EventLog]:
    event_log = open_log(f"{kafka_url}?client={request.param}", prefix)
    event_log.create("events", 1)
    yield event_log
    event_log.close()


def read_values(source: Source, count: int) -> list[bytes | None]:
    values: list[bytes | None] = []
    deadline = time.monotonic() + 20
    while len(values) < count and time.monotonic() < deadline:
        values += [value for records in source.next_batch(100, timeout=0.5) for value in records.values]
    return values


def test_every_codec_is_readable(log: EventLog, kafka_url: str, prefix: str) -> None:
    expected = []
    for codec in CODECS:
        producer = open_producer(kafka_url, **{"compression.type": codec, "linger.ms": 200})
        for i in range(20):
            expected.append(f"{codec} {i} ".encode() * 200)
            producer.produce(f"{prefix}events", expected[-1], b"u")
        producer.flush(20)
    source = log.open_source("events", "g")

    assert read_values(source, len(expected)) == expected
    assert list(log.read("events", 0, 0, 1000).values) == expected


def test_large_compressed_batch_is_readable(log: EventLog, kafka_url: str, prefix: str) -> None:
    for codec in CODECS:
        producer = open_producer(kafka_url, **{"compression.type": codec, "message.max.bytes": 8 << 20})
        producer.produce(f"{prefix}events", bytes(3 << 20), b"u")
        producer.flush(20)

    assert list(map(len, log.read("events", 0, 0, 10).values)) == [3 << 20] * len(CODECS)  # type: ignore[arg-type]


def test_aborted_transactions_are_not_read(log: EventLog, kafka_url: str, prefix: str) -> None:
    topic = f"{prefix}events"
    run_transaction(kafka_url, topic, [b"a", b"b"], is_committed=False)
    run_transaction(kafka_url, topic, [b"c"], is_committed=True)
    log.append("events", 0, [(b"u", b"d")])
    run_transaction(kafka_url, topic, [b"e"], is_committed=False)
    source = log.open_source("events", "g")
    values = read_values(source, 2)

    assert values == [b"c", b"d"]
    assert list(log.read("events", 0, 0, 100).values) == [b"c", b"d"]


def test_documented_producer_writes_to_the_partition_of_the_user(kafka_url: str, prefix: str) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "events.md").read_text()
    code = page.partition("<!-- producer -->")[2].partition("```python\n")[2].partition("```")[0]
    code = code.replace("broker:9092", kafka_url.removeprefix("kafka://")).replace('"events"', f'"{prefix}events"')
    log = open_log(kafka_url, prefix)
    log.create("events", 12)
    for user_id in ("u1", "Zoë", "x" * 200):
        exec(code.replace('"u1"', repr(user_id)), {})
        (value,) = log.read("events", partition_for_id(user_id, 12), 0, 10).values
        assert value

        event = msgspec.json.decode(value, type=Event)
        log.trim("events", partition_for_id(user_id, 12), 1)
        assert event.user_id == user_id
        assert validate([event], [SystemClock().now_ms()], Limits(max_age=60, max_skew=60)) == {}
    log.close()
