"""Contract of every event log, and the local log among processes that die."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stream.clock import DAY_MS, ManualClock
from stream.drivers import open_log
from stream.local.sqlite import SQLiteDatabase
from stream.logs import EventLog, Position, Record, Records, Source
from stream.testing import Crash, Crashed, MemoryLog

ROOT = Path(__file__).resolve().parents[2]


class WallClock:
    """Clock of a driver that uses the time of day; it advances by a short wait."""

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def advance(self, seconds: float) -> None:
        time.sleep(0.05)


KAFKA_CLIENTS = {"kafka": "kafka-python", "kafka, fast": "confluent"}  # client by driver


@pytest.fixture(params=["local", "memory", *KAFKA_CLIENTS])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> ManualClock | WallClock:
    drivers = "driver" in request.fixturenames and request.getfixturevalue("driver")
    return WallClock() if drivers in KAFKA_CLIENTS else ManualClock(1_000_000)


@pytest.fixture
def log(request: pytest.FixtureRequest, driver: str, tmp_path: Path, clock: ManualClock) -> Iterator[EventLog]:
    if driver == "memory":
        event_log: EventLog = MemoryLog(clock=clock)
    elif driver in KAFKA_CLIENTS:
        event_log = open_log(
            f"{request.getfixturevalue('kafka_url')}?client={KAFKA_CLIENTS[driver]}", f"{uuid4()}.", clock
        )
    else:
        event_log = open_log(f"local:{tmp_path / 'log'}", clock=clock)
    yield event_log
    event_log.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def local(folder: Path, clock: ManualClock) -> Iterator[EventLog]:
    log = open_log(f"local:{folder}", clock=clock)
    yield log
    log.close()


def make_records(count: int, first: int = 0) -> list[Record]:
    return [(b"k%d" % i, b"v%d" % i) for i in range(first, first + count)]


def list_rows(batch: list[Records]) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [
        (records.partition, *row)
        for records in batch
        for row in zip(records.offsets, records.keys, records.values, strict=True)
    ]


def list_values(batch: list[Records]) -> list[bytes | None]:
    return [value for _, _, _, value in list_rows(batch)]


def drain(log: EventLog, topic: str, source: Source, limit: int = 10) -> list[list[Records]]:
    """Batches until the source has read its partitions to their ends."""
    batches = []
    while any(offset < log.end_offset(topic, partition) for partition, offset in source.snapshot().items()):
        batches.append(source.next_batch(limit, timeout=5.0))
        assert batches[-1], "the source returned no records before the end of the topic"
    return batches


def flatten(batches: list[list[Records]]) -> list[Records]:
    return [records for batch in batches for records in batch]


def start_python(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


# Topics


def test_create_is_idempotent(log: EventLog) -> None:
    log.create("events", 3)
    log.append("events", 2, make_records(1))
    log.create("events", 3)

    assert (log.partitions("events"), log.end_offset("events", 2)) == (3, 1)


def test_create_rejects_another_number_of_partitions(log: EventLog) -> None:
    log.create("events", 3)

    with pytest.raises(ValueError, match=r"'events'.* has 3 partitions, expected 4"):
        log.create("events", 4)


@pytest.mark.parametrize("name", ["", "a/b", "..", "ü", "x" * 101])
def test_invalid_topic_name_is_rejected(log: EventLog, name: str) -> None:
    with pytest.raises(ValueError, match="topic must be"):
        log.create(name, 1)


def test_unknown_topic_error_names_the_topic(log: EventLog) -> None:
    with pytest.raises(ValueError, match=r"'nothing' does not exist in .*create it first"):
        log.append("nothing", 0, make_records(1))


@pytest.mark.parametrize("partition", [-1, 2])
def test_unknown_partition_error_names_the_partition(log: EventLog, partition: int) -> None:
    log.create("events", 2)

    with pytest.raises(ValueError, match=f"partitions 0 to 1, got {partition}"):
        log.append("events", partition, make_records(1))


@pytest.mark.parametrize("url", ["", "local", "file:/tmp/x", "local:"])
def test_unknown_url_error_names_the_expected_form(url: str) -> None:
    with pytest.raises(ValueError, match=r"log URL must .*local:.*got"):
        open_log(url)


# Appends and reads


def test_append_returns_the_first_offset(log: EventLog) -> None:
    log.create("events", 2)

    assert [log.append("events", 1, make_records(count)) for count in (3, 0, 1)] == [0, 3, 3]
    assert (log.start_offset("events", 1), log.end_offset("events", 1), log.end_offset("events", 0)) == (0, 4, 0)


def test_append_many_numbers_each_partition_independently(log: EventLog) -> None:
    log.create("events", 3)
    log.append("events", 2, make_records(5))

    assert log.append_many("events", {0: make_records(2), 2: make_records(1)}) == {0: 0, 2: 5}


def test_append_many_is_all_or_nothing(log: EventLog) -> None:
    log.create("events", 2)

    with pytest.raises(ValueError, match="partitions 0 to 1"):
        log.append_many("events", {0: make_records(1), 7: make_records(1)})
    assert log.end_offset("events", 0) == 0


def test_values_other_than_bytes_are_rejected(log: EventLog) -> None:
    log.create("events", 1)

    with pytest.raises(TypeError, match="bytes or None, got str"):
        log.append("events", 0, [(b"k", "text")])  # type: ignore[list-item]
    assert log.end_offset("events", 0) == 0


def test_read_starts_at_any_offset(log: EventLog) -> None:
    log.create("events", 1)
    for first in range(0, 3000, 1500):
        log.append("events", 0, make_records(1500, first))

    assert list_rows([log.read("events", 0, 1498, 4)]) == [(0, i, b"k%d" % i, b"v%d" % i) for i in range(1498, 1502)]
    assert len(log.read("events", 0, 3000, 10)) == len(log.read("events", 0, 2**60, 10)) == 0


def test_small_reads_equal_large_reads_as_the_topic_changes(log: EventLog) -> None:
    log.create("events", 2)
    for first in (0, 40):
        log.append_many("events", {partition: make_records(40, first) for partition in range(2)})
        for offset in range(first, first + 40, 3):
            for partition in range(2):
                records = log.read("events", partition, offset, 3)

                assert list_rows([records]) == list_rows([log.read("events", partition, offset, 10**6)])[:3]
    log.trim("events", 0, 50)
    assert list(log.read("events", 0, 48, 2).offsets) == [50, 51]
    assert list(log.read("events", 1, 48, 2).offsets) == [48, 49]


def test_record_times_are_append_times_and_never_fall(log: EventLog, clock: ManualClock) -> None:
    log.create("events", 1)
    spans = []
    for count in (1, 2):
        before = clock.now_ms()
        log.append("events", 0, make_records(count))
        spans += [(before, clock.now_ms())] * count
        clock.advance(5.0)
    times = list(log.read("events", 0, 0, 10).times)

    assert all(before <= ts <= after for ts, (before, after) in zip(times, spans, strict=True))
    assert times == sorted(times)


def test_offset_for_time_returns_first_record_at_or_after(log: EventLog, clock: ManualClock) -> None:
    log.create("events", 1)
    before, after = [], []
    for _ in range(3):
        before.append(clock.now_ms())
        log.append("events", 0, make_records(2))
        after.append(clock.now_ms())
        clock.advance(1.0)
    timestamps = (0, before[0], after[0] + 1, before[1], before[2], after[2] + 1)

    assert [log.offset_for_time("events", 0, ts) for ts in timestamps] == [0, 0, 2, 2, 4, 6]


RECORD = st.tuples(st.none() | st.binary(max_size=40), st.none() | st.binary(max_size=2000)).filter(any)
RECORDS = st.lists(RECORD, max_size=60)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(RECORDS, max_size=5), st.integers(1, 50))
def test_appended_records_round_trip(log: EventLog, cuts: list[list[Record]], limit: int) -> None:
    if "round-trip" not in _find_topics(log):
        log.create("round-trip", 1)
    start = log.end_offset("round-trip", 0)
    for records in cuts:
        log.append("round-trip", 0, records)
    source = log.open_source("round-trip", None)
    source.seek(0, start)
    batches = drain(log, "round-trip", source, limit)
    source.close()
    read = list_rows(flatten(batches))

    expected = [record for records in cuts for record in records]
    assert all(sum(map(len, batch)) <= limit for batch in batches)
    assert read == [(0, start + i, *record) for i, record in enumerate(expected)]


def _find_topics(log: EventLog) -> set[str]:
    try:
        log.partitions("round-trip")
    except ValueError:
        return set()
    return {"round-trip"}


@pytest.mark.parametrize("size", [0, 1 << 20, 3 << 20])
def test_records_of_any_size_round_trip(log: EventLog, size: int) -> None:
    log.create("events", 1)
    big = [(b"k%d" % i, bytes([i]) * size) for i in range(5)]
    log.append("events", 0, big)

    assert list(log.read("events", 0, 0, 10).values) == [value for _, value in big]


# Sources


def test_source_reads_all_partitions_in_order(log: EventLog) -> None:
    log.create("events", 3)
    log.append_many("events", {0: make_records(3), 2: make_records(2)})
    source = log.open_source("events", None)

    expected = [(partition, i, b"k%d" % i, b"v%d" % i) for partition, count in ((0, 3), (2, 2)) for i in range(count)]
    assert sorted(list_rows(flatten(drain(log, "events", source)))) == expected
    assert source.snapshot() == {0: 3, 1: 0, 2: 2}
    assert source.next_batch(10, timeout=0.0) == []


def test_source_reads_only_the_requested_partitions(log: EventLog) -> None:
    log.create("events", 3)
    log.append_many("events", {0: make_records(1), 1: make_records(1), 2: make_records(1)})
    source = log.open_source("events", None, partitions=[1])

    assert [records.partition for records in flatten(drain(log, "events", source))] == [1]
    assert source.snapshot() == {1: 1}


def test_next_batch_waits_for_the_first_record(log: EventLog) -> None:
    log.create("events", 1)
    source = log.open_source("events", None)
    writer = threading.Timer(0.05, log.append, ("events", 0, make_records(1)))
    writer.start()

    assert list_values(source.next_batch(10, timeout=5.0)) == [b"v0"]
    writer.join()


def test_next_batch_returns_at_its_timeout(log: EventLog) -> None:
    log.create("events", 1)
    source = log.open_source("events", None)
    start = time.monotonic()

    assert source.next_batch(10, timeout=0.05) == []
    assert 0.04 <= time.monotonic() - start < 0.5


def test_limit_below_one_is_rejected(log: EventLog) -> None:
    log.create("events", 1)

    with pytest.raises(ValueError, match="limit must be at least 1, got 0"):
        log.open_source("events", None).next_batch(0, timeout=0.0)


def test_seek_moves_back(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, make_records(5))
    source = log.open_source("events", None)
    drain(log, "events", source)
    source.seek(0, 3)

    assert list_values(flatten(drain(log, "events", source))) == [b"v3", b"v4"]


def test_seek_rejects_unassigned_partitions_and_invalid_offsets(log: EventLog) -> None:
    log.create("events", 2)
    source = log.open_source("events", None, partitions=[0])

    with pytest.raises(ValueError, match="partition 1 is not assigned"):
        source.seek(1, 0)
    with pytest.raises(ValueError, match="offset must be at least 0, got -1"):
        source.seek(0, -1)


def test_group_resumes_at_its_committed_offset(log: EventLog) -> None:
    log.create("events", 2)
    log.append_many("events", {0: make_records(5), 1: make_records(5)})
    first = log.open_source("events", "g")
    first.commit({0: Position(2, "watermark=7")})
    first.close()
    second = log.open_source("events", "g")

    assert second.snapshot() == {0: 2, 1: 0}
    assert second.committed() == log.committed("events", "g") == {0: Position(2, "watermark=7")}


def test_later_commit_replaces_the_metadata(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, make_records(5))
    source = log.open_source("events", "g")
    source.commit({0: Position(2, "old")})
    source.commit({0: Position(1, "é\n")})

    assert source.committed() == {0: Position(1, "é\n")}


def test_metadata_with_nul_is_rejected() -> None:
    with pytest.raises(ValueError, match="without NUL"):
        Position(1, "a\x00b")


def test_groups_and_topics_have_separate_positions(log: EventLog) -> None:
    for topic in ("events", "items"):
        log.create(topic, 1)
        log.append(topic, 0, make_records(3))
    log.open_source("events", "g").commit({0: Position(1)})

    assert log.committed("events", "h") == log.committed("items", "g") == {}
    assert log.open_source("items", "g").snapshot() == {0: 0}


def test_source_without_a_group_cannot_commit(log: EventLog) -> None:
    log.create("events", 1)

    with pytest.raises(ValueError, match="without a group"):
        log.open_source("events", None).commit({0: Position(0)})


def test_commit_is_all_or_nothing(log: EventLog) -> None:
    log.create("events", 2)
    source = log.open_source("events", "g", partitions=[0])

    with pytest.raises(ValueError, match="partition 1 is not assigned"):
        source.commit({0: Position(0), 1: Position(0)})
    assert source.committed() == {}


@pytest.mark.parametrize("driver", ["local", "memory"], indirect=True)
def test_group_has_one_reader_at_a_time(log: EventLog) -> None:
    log.create("events", 1)
    first = log.open_source("events", "g")

    with pytest.raises(BlockingIOError, match="group 'g' already reads topic 'events'"):
        log.open_source("events", "g")
    first.close()
    log.open_source("events", "g").close()


# Retention


def test_trim_deletes_records_below_the_offset(log: EventLog) -> None:
    log.create("events", 1)
    for first in range(0, 20, 4):
        log.append("events", 0, make_records(4, first))
    log.trim("events", 0, 10)
    log.trim("events", 0, 6)

    assert (log.start_offset("events", 0), log.end_offset("events", 0)) == (10, 20)
    assert list(log.read("events", 0, 0, 3).offsets) == [10, 11, 12]
    assert log.open_source("events", None).snapshot() == {0: 10}


def test_trim_of_everything_keeps_the_next_offset(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, make_records(4))
    log.trim("events", 0, 100)

    assert (log.start_offset("events", 0), log.append("events", 0, make_records(1))) == (4, 4)


def test_reader_behind_retention_resumes_at_the_start(log: EventLog, driver: str) -> None:
    log.create("events", 1)
    log.append("events", 0, make_records(10))
    source = log.open_source("events", None)
    if driver not in KAFKA_CLIENTS:  # a Kafka source keeps its prefetched records
        source.next_batch(2, timeout=5.0)
    log.trim("events", 0, 7)
    if driver in KAFKA_CLIENTS:
        source.seek(0, 2)

    assert list_values(flatten(drain(log, "events", source))) == [b"v7", b"v8", b"v9"]


def test_trim_older_deletes_by_append_time(log: EventLog, clock: ManualClock) -> None:
    log.create("events", 2)
    before = []
    for _ in range(3):
        before.append(clock.now_ms())
        log.append_many("events", {0: make_records(2), 1: make_records(1)})
        clock.advance(1.0)
    log.trim_older("events", before[2])

    assert (log.start_offset("events", 0), log.start_offset("events", 1)) == (4, 2)


@pytest.mark.parametrize("driver", ["local", "memory"], indirect=True)  # a broker compacts at times of its choice
def test_compact_keeps_the_newest_record_of_each_key(log: EventLog, clock: ManualClock) -> None:
    log.create("items", 1, compacted=True)
    for version in range(3):
        log.append("items", 0, [(key, b"%d" % version) for key in (b"a", b"b", b"c")][: 3 - version])
    before = log.read("items", 0, 0, 10)
    log.compact("items", clock.now_ms())

    assert list_rows([log.read("items", 0, 0, 10)]) == list_rows([before])

    log.compact("items", clock.now_ms() + 1)

    assert list_rows([log.read("items", 0, 0, 10)])[-3:] == [(0, 2, b"c", b"0"), (0, 4, b"b", b"1"), (0, 5, b"a", b"2")]


@pytest.mark.parametrize("driver", ["local", "memory"], indirect=True)
def test_compact_keeps_only_recent_tombstones(log: EventLog, clock: ManualClock) -> None:
    log.create("items", 1, compacted=True)
    log.append("items", 0, [(b"gone", b"x"), (b"kept", b"y")])
    log.append("items", 0, [(b"gone", None)])
    log.append("items", 0, [(b"last", b"z")])
    log.compact("items", clock.now_ms() + 1)
    recent = log.read("items", 0, 0, 10)
    clock.advance(DAY_MS / 1000 + 1)
    log.compact("items", clock.now_ms())
    old = log.read("items", 0, 0, 10)

    assert list(recent.keys) == [b"kept", b"gone", b"last"]
    assert list(old.keys) == [b"kept", b"last"]


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.tuples(st.binary(max_size=1), st.binary(max_size=3)), max_size=9), max_size=9))
def test_compact_preserves_the_value_of_every_key(log: EventLog, cuts: list[list[tuple[bytes, bytes]]]) -> None:
    log.create("items", 1, compacted=True)
    for records in cuts:
        log.append("items", 0, records)
    before = log.read("items", 0, 0, 10_000)
    log.compact("items", 1 << 60)
    after = log.read("items", 0, 0, 10_000)
    source = log.open_source("items", None)
    source_values = list_values(flatten(drain(log, "items", source, 10_000)))
    source.close()

    assert dict(zip(before.keys, before.values, strict=True)) == dict(zip(after.keys, after.values, strict=True))
    assert source_values == list(after.values)
    assert source.snapshot() == {0: log.end_offset("items", 0)}


def test_compact_rejects_a_topic_that_is_not_compacted(log: EventLog) -> None:
    log.create("events", 1)

    with pytest.raises(ValueError, match="'events' is not compacted: create it with compacted=True"):
        log.compact("events", 1 << 60)


# Threads


def test_threads_append_and_read_through_one_log(log: EventLog) -> None:
    log.create("events", 4)

    def write(partition: int) -> None:
        for i in range(50):
            log.append("events", partition, make_records(2, 2 * i))

    writers = [threading.Thread(target=write, args=(partition,)) for partition in range(4)]
    for writer in writers:
        writer.start()
    source = log.open_source("events", None)
    read: Counter[int] = Counter()
    while read.total() < 400:
        read.update({records.partition: len(records) for records in source.next_batch(100, timeout=10.0)})
    for writer in writers:
        writer.join()

    assert read == {0: 100, 1: 100, 2: 100, 3: 100}


# The memory driver's extras


def test_crash_is_a_value_in_a_topic() -> None:
    log = MemoryLog({"events": [b"a", (b"k", b"b"), Crash(), b"c"]})
    source = log.open_source("events", "g")
    read = list_values(source.next_batch(10, timeout=0.0))
    with pytest.raises(Crashed, match="before offset 2"):
        source.next_batch(10, timeout=0.0)
    reread = list_values(log.open_source("events", "g").next_batch(10, timeout=0.0))

    assert read == [b"a", b"b"]
    assert reread == [b"a", b"b", b"c"]


def test_revoked_partitions_can_be_committed_before_they_move() -> None:
    log = MemoryLog()
    log.create("events", 3)
    log.append_many("events", {partition: make_records(4) for partition in range(3)})
    log.open_source("events", "g", partitions=[2]).commit({2: Position(3, "elsewhere")})
    log.leave("events", "g")
    revocations: list[frozenset[int]] = []

    def on_revoke(partitions: frozenset[int]) -> None:
        revocations.append(partitions)
        source.commit({0: Position(4, "handed over")})

    source = log.open_source("events", "g", partitions=[0, 1], on_revoke=on_revoke)
    source.next_batch(100, timeout=0.0)
    source.assign([1, 2])

    assert list_rows(source.next_batch(100, timeout=0.0)) == [(2, 3, b"k3", b"v3")]
    assert source.snapshot() == {1: 4, 2: 4}
    assert (revocations, log.committed("events", "g")[0]) == ([frozenset({0})], Position(4, "handed over"))


# The local driver: one folder, several processes

OPEN_SCRIPT = """
import sys
from stream.drivers import open_log
log = open_log("local:" + sys.argv[1])
log.create("events", 2)
"""
WRITE_SCRIPT = f"""{OPEN_SCRIPT}
name, count = sys.argv[2].encode(), int(sys.argv[3])
for i in range(count):
    log.append("events", i % 2, [(name, b"%d" % i)] * 3)
    print(i, flush=True)
"""


def test_appended_records_persist_after_reopening(folder: Path) -> None:
    for _ in range(2):
        log = open_log(f"local:{folder}")
        log.create("events", 1)
        log.append("events", 0, make_records(3))
        log.close()

    log = open_log(f"local:{folder}")
    assert log.end_offset("events", 0) == 6
    log.close()


def test_prefixes_in_one_folder_are_isolated(folder: Path) -> None:
    logs = [open_log(f"local:{folder}", prefix) for prefix in ("a.", "b.")]
    for log in logs:
        log.create("events", 1)
    logs[0].append("events", 0, make_records(2))
    sources = [log.open_source("events", "g") for log in logs]
    sources[0].commit({0: Position(2)})

    assert [log.end_offset("events", 0) for log in logs] == [2, 0]
    assert [log.committed("events", "g") for log in logs] == [{0: Position(2)}, {}]
    for log in logs:
        log.close()


def test_concurrent_writer_processes_lose_and_reorder_nothing(folder: Path, local: EventLog) -> None:
    local.create("events", 2)
    source = local.open_source("events", "g")
    writers = [start_python(WRITE_SCRIPT, folder, name, 60) for name in ("a", "b", "c")]
    read: dict[tuple[bytes | None, int], list[int]] = {}
    n_records = 0
    deadline = time.monotonic() + 60
    while n_records < 3 * 60 * 3 and time.monotonic() < deadline:
        for records in source.next_batch(50, timeout=1.0):
            n_records += len(records)
            for key, value in zip(records.keys, records.values, strict=True):
                read.setdefault((key, records.partition), []).append(int(value or b"-1"))
    for writer in writers:
        _, stderr = writer.communicate(timeout=60)
        assert writer.returncode == 0, stderr

    expected = {parity: [i for i in range(parity, 60, 2) for _ in range(3)] for parity in (0, 1)}
    assert read == {(name, parity): expected[parity] for name in (b"a", b"b", b"c") for parity in (0, 1)}


def test_kill_9_keeps_acknowledged_appends_and_no_partial_one(folder: Path) -> None:
    acknowledged: dict[bytes, int] = {}
    for life in range(4):
        name = f"life{life}"
        with start_python(WRITE_SCRIPT, folder, name, 1_000_000) as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                if int(line) >= 7 * life + 3:
                    break
            time.sleep(0.0013 * life)  # somewhere inside an append
            writer.send_signal(signal.SIGKILL)
            lines = [line, *(rest for rest in writer.stdout if rest.endswith("\n"))]
            writer.wait()
        acknowledged[name.encode()] = int(lines[-1]) + 1
    log = open_log(f"local:{folder}")
    key_counts = Counter(key for partition in (0, 1) for key in log.read("events", partition, 0, 10**6).keys)
    log.close()

    for key, count in acknowledged.items():
        assert key_counts[key] in (3 * count, 3 * (count + 1))  # the last append can be committed but not acknowledged


def test_reader_in_another_process_wakes_after_an_append(folder: Path, local: EventLog) -> None:
    local.create("events", 2)
    script = OPEN_SCRIPT + (
        "source = log.open_source('events', None)\nprint('ready', flush=True)\n"
        "for _ in range(40):\n"
        "    (records,) = source.next_batch(10, timeout=30.0)\n"
        "    print(records.values[0].decode(), flush=True)\n"
    )
    with start_python(script, folder) as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        received = []
        for i in range(40):
            local.append("events", 0, [(None, b"%d" % i)])
            received.append(int(reader.stdout.readline()))

    assert received == list(range(40))  # benchmarks/speed/local_drivers.py measures the delay


def test_group_is_locked_until_its_reader_process_dies(folder: Path, local: EventLog) -> None:
    local.create("events", 2)
    script = OPEN_SCRIPT + "source = log.open_source('events', 'g')\nprint('ready', flush=True)\nsys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(BlockingIOError, match=f"group 'g' already reads topic 'events' in process {holder.pid}:"):
            local.open_source("events", "g")
        local.open_source("events", "other").close()
        holder.kill()
        holder.wait()

    local.open_source("events", "g").close()


def test_processes_can_create_a_topic_concurrently(folder: Path) -> None:
    processes = [start_python(OPEN_SCRIPT + "print(log.append('events', 0, [(None, b'x')]))", folder) for _ in range(4)]
    outcomes = [process.communicate(timeout=60) for process in processes]

    assert sorted(out.strip() for out, _ in outcomes) == ["0", "1", "2", "3"], outcomes


def test_topic_can_be_non_durable(local: EventLog) -> None:
    local.create("model-updates", 1, durable=False)
    local.append("model-updates", 0, make_records(3))

    assert local.end_offset("model-updates", 0) == 3


def test_identity_of_a_non_durable_topic_is_durable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    identified, set_durable = [], SQLiteDatabase.set_durable

    def record(database: SQLiteDatabase, durable: bool) -> None:
        if not durable:
            identified.append(bool(database.reader.fetch_all("SELECT id FROM identity")))
        set_durable(database, durable)

    monkeypatch.setattr(SQLiteDatabase, "set_durable", record)
    log = open_log(f"local:{folder}")
    log.create("model-updates", 1, durable=False)
    log.close()

    assert identified == [True]


def test_write_ahead_log_is_truncated_after_a_slow_reader(folder: Path, local: EventLog) -> None:
    local.create("events", 1)
    wal = folder / "events.topic.db-wal"
    reader = sqlite3.connect(folder / "events.topic.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM blocks").fetchall()
    while wal.stat().st_size < 66 << 20:
        local.append("events", 0, [(None, bytes(1 << 20))] * 4)
    reader.close()
    deadline = time.monotonic() + 20
    while wal.stat().st_size:
        assert time.monotonic() < deadline, "the write-ahead log never became empty"
        local.append("events", 0, make_records(1))


@pytest.mark.parametrize(
    "corrupt",
    [lambda path: path.write_bytes(b"not a database" * 1000), lambda path: os.truncate(path, 17_000)],
    ids=["overwritten", "truncated"],
)
def test_corrupt_topic_error_shows_the_fix(folder: Path, corrupt: Callable[[Path], object]) -> None:
    log = open_log(f"local:{folder}")
    log.create("events", 1)
    log.append("events", 0, make_records(3))
    log.close()
    corrupt(folder / "events.topic.db")
    log = open_log(f"local:{folder}")

    with pytest.raises(OSError, match=r"damaged.*restore.*events\.topic\.db"):
        log.read("events", 0, 0, 10)
    log.close()


def test_undecodable_block_error_names_the_block(folder: Path, local: EventLog) -> None:
    local.create("events", 1)
    local.append("events", 0, make_records(3))
    with sqlite3.connect(folder / "events.topic.db") as db:
        db.execute("UPDATE blocks SET body = x'c1'")
    db.close()

    with pytest.raises(OSError, match=r"partition 0 from offset 0.*damaged.*events\.topic\.db"):
        local.read("events", 0, 0, 10)


def test_topic_of_a_newer_schema_is_rejected(folder: Path) -> None:
    log = open_log(f"local:{folder}")
    log.create("events", 1)
    log.close()
    with sqlite3.connect(folder / "events.topic.db") as db:
        db.execute("PRAGMA user_version = 2")
    db.close()
    log = open_log(f"local:{folder}")

    with pytest.raises(ValueError, match=r"events\.topic\.db has schema version 2, expected 1"):
        log.end_offset("events", 0)
    log.close()


def test_full_disk_error_names_the_file(folder: Path) -> None:
    script = OPEN_SCRIPT + (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\nkept = 0\n"
        "try:\n    while True:\n        kept = 1 + log.append('events', 0, [(None, bytes(50_000))])\n"
        "except OSError as error:\n    print(kept, log.end_offset('events', 0), str(error))\n"
    )
    with start_python(script, folder) as writer:
        out, stderr = writer.communicate(timeout=60)

    assert out, stderr
    acknowledged_end, end, error = out.split(" ", 2)
    assert acknowledged_end == end != "0"
    assert "events.topic.db" in error


def test_group_ahead_of_its_topic_raises_an_error(folder: Path) -> None:
    log = open_log(f"local:{folder}")
    log.create("events", 1)
    log.append("events", 0, make_records(3))
    log.open_source("events", "g").commit({0: Position(3)})
    log.close()
    for path in folder.glob("events.topic.db*"):
        path.unlink()
    log = open_log(f"local:{folder}")
    log.create("events", 1)

    with pytest.raises(ValueError, match=r"'g' has read topic 'events', partition 0, up to offset 3.*ends at 0"):
        log.open_source("events", "g")
    log.close()
