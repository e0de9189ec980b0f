"""Group assignment, passwords and outages of Kafka; see also ../test_logs.py."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from stream.clock import SystemClock
from stream.config import Settings
from stream.drivers import open_log
from stream.kafka.kafka_python.connections import create_admin_client
from stream.kafka.url import CLIENTS, parse_url
from stream.logs import EventLog, Fenced, Position, Source
from stream.testing import MemoryStore
from stream.topics import create_topics
from stream.worker.worker import StreamWorker
from tests.conftest import listener_urls
from tests.support.services import PASSWORD, USER, free_ports


@pytest.fixture
def prefix() -> str:
    return f"{uuid4()}."


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def url(kafka_url: str, client: str) -> str:
    return f"{kafka_url}?session=6&client={client}"


@pytest.fixture
def log(url: str, prefix: str) -> Iterator[EventLog]:
    event_log = open_log(url, prefix)
    yield event_log
    event_log.close()


def read_until(sources: list[Source], condition: object, timeout: float = 30.0) -> None:
    """Read from the sources in turn until a condition is true."""
    deadline = time.monotonic() + timeout
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, [sorted(source.snapshot()) for source in sources]
        for source in sources:
            source.next_batch(100, timeout=0.1)


# Groups


@pytest.mark.parametrize("other", ["the same client", "the other client"])
def test_second_consumer_gets_partitions_and_returns_them(
    log: EventLog, url: str, client: str, other: str, prefix: str
) -> None:
    log.create("events", 4)
    log.append_many("events", {partition: [(b"k", b"v")] * 3 for partition in range(4)})
    revoked_partitions: list[frozenset[int]] = []
    first = log.open_source("events", "g", on_revoke=revoked_partitions.append)
    assert sorted(first.snapshot()) == [0, 1, 2, 3]
    first.next_batch(100, timeout=5.0)
    first.commit({partition: Position(2, "half") for partition in range(4)})
    other_log = open_log(url if other == "the same client" else url.replace(client, get_other_client(client)), prefix)
    second: list[Source] = []
    thread = threading.Thread(target=lambda: second.append(other_log.open_source("events", "g")))
    thread.start()
    while thread.is_alive():
        first.next_batch(100, timeout=0.1)
    read_until([first, *second], lambda: len(first.snapshot()) == len(second[0].snapshot()) == 2)
    second_positions = second[0].snapshot()
    committed = second[0].committed()
    other_log.close()
    read_until([first], lambda: len(first.snapshot()) == 4)

    assert frozenset().union(*revoked_partitions) == second_positions.keys()
    assert committed == dict.fromkeys(second_positions, Position(2, "half"))
    assert all(first.snapshot()[partition] in (2, 3) for partition in second_positions)


def get_other_client(client: str) -> str:
    (name,) = set(CLIENTS) - {client}
    return name


def test_fenced_consumer_error_names_the_new_owner(url: str, prefix: str) -> None:
    logs = [open_log(f"{url}&member=worker-1", prefix) for _ in range(2)]
    logs[0].create("events", 1)
    logs[0].append("events", 0, [(b"k", b"v")])
    fenced_source = logs[0].open_source("events", "g")
    fenced_source.commit({0: Position(0, "machine-a:17")})
    new_source = logs[1].open_source("events", "g")
    new_source.commit({0: Position(1, "machine-b:4")})

    assert new_source.snapshot() == {0: 0}
    for _ in range(2):  # the second time too: it never takes the name back
        with pytest.raises(Fenced, match=r"member=worker-1.*\(machine-b:4\).*another member= in the HEADRACE_LOG__URL"):
            fenced_source.commit({0: Position(1)})
    with pytest.raises(Fenced, match="machine-b:4"):
        read_until([fenced_source], lambda: False)
    new_source.commit({0: Position(1)})
    for log in logs:
        log.close()


def test_fenced_worker_stops_instead_of_retrying(url: str, prefix: str) -> None:
    logs = [open_log(f"{url}&member=worker-1", prefix) for _ in range(2)]
    create_topics(logs[0])
    store, stop = MemoryStore(), threading.Event()
    fenced_worker = StreamWorker(logs[0], store, Settings())
    fenced_worker.step(timeout=0)
    new_worker = StreamWorker(logs[1], store, Settings())
    new_worker.step(timeout=0)
    event = b'{"event_id":"e","type":"click","ts":%d,"user_id":"u","item_id":"a"}' % SystemClock().now_ms()
    logs[1].append("events", 0, [(b"u", event)])

    with pytest.raises(Fenced, match="another process uses member=worker-1"):
        fenced_worker.run(threading.Event())
    thread = threading.Thread(target=new_worker.run, args=(stop,))
    thread.start()
    deadline = time.monotonic() + 20
    while logs[1].committed("events", "stream")[0].offset < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    thread.join()

    assert logs[1].committed("events", "stream")[0].offset == 1
    assert store.count() == 1
    for log in logs:
        log.close()


def test_group_ahead_of_its_topic_raises_an_error(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, [(b"k", b"v")])
    source = log.open_source("events", "g", partitions=[0])
    source.commit({0: Position(5)})
    source.close()

    with pytest.raises(ValueError, match="'g' has read topic 'events', partition 0, up to offset 5, but it ends at 1"):
        log.open_source("events", "g", partitions=[0])


def test_deleted_position_resumes_at_the_start_of_the_topic(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, [(b"k", b"%d" % i) for i in range(10)])
    log.open_source("events", "g", partitions=[0]).commit({0: Position(3)})
    log.trim("events", 0, 7)
    source = log.open_source("events", "g", partitions=[0])
    (records,) = source.next_batch(10, timeout=10.0)

    assert list(records.values) == [b"7", b"8", b"9"]


# Prints the number of records and the growth in memory, MiB: after one record, maximum while idle, peak until the end.
SLOW_READER_SCRIPT = """
import sys, time
from stream.drivers import open_log
def memory(name): return int(open("/proc/self/status").read().partition(name)[2].split()[0]) >> 10
log = open_log(sys.argv[1], sys.argv[2])
before, n_records = memory("VmRSS:"), 0
source = log.open_source("events", "g")
while not n_records:
    n_records += sum(map(len, source.next_batch(1, 5.0)))
time.sleep(1)  # until requested records have arrived
waiting = [memory("VmRSS:") - before]
for _ in range(10):
    time.sleep(0.2)
    waiting.append(memory("VmRSS:") - before)
while n_records < int(sys.argv[3]):
    n_records += sum(map(len, source.next_batch(4, 5.0)))
print(n_records, waiting[0], max(waiting), memory("VmHWM:") - before)
log.close()
"""


@pytest.mark.slow
def test_slow_reader_has_bounded_memory(log: EventLog, url: str, prefix: str, client: str) -> None:
    log.create("events", 4)
    for _ in range(8):  # batches of the maximum size, which a broker sends whole
        log.append_many("events", {partition: [(b"k", bytes(250_000))] * 32 for partition in range(4)})
    process = subprocess.run(
        [sys.executable, "-c", SLOW_READER_SCRIPT, url, prefix, "1024"],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )
    n_records, first_mib, waiting_mib, peak_mib = map(int, process.stdout.split())

    assert n_records == 1024
    assert waiting_mib - first_mib < 16
    assert peak_mib < {"kafka-python": 160, "confluent": 64}[client], "MiB, of 244 in the topic"


# Topics


def test_topics_are_created_for_events_and_for_tables(log: EventLog, url: str, prefix: str) -> None:
    from kafka.admin import ConfigResource

    log.create("events", 2)
    log.create("items", 1, compacted=True)
    client = create_admin_client(parse_url(url))
    resources = [ConfigResource("topic", prefix + topic) for topic in ("events", "items")]
    configs = client.describe_configs(resources, config_filter="all")["topic"]
    client.close()

    assert [configs[prefix + topic]["cleanup.policy"]["value"] for topic in ("events", "items")] == [
        "delete",
        "compact",
    ]
    assert configs[prefix + "events"]["message.timestamp.type"]["value"] == "LogAppendTime"
    assert configs[prefix + "events"]["retention.ms"]["value"] == "-1"


def test_cleanup_policy_mismatch_error_shows_the_fix(log: EventLog) -> None:
    log.create("items", 1)

    with pytest.raises(ValueError, match=r"another cleanup\.policy than 'compact': run kafka-configs\.sh .*items"):
        log.create("items", 1, compacted=True)


def test_large_appends_arrive_complete(log: EventLog) -> None:
    log.create("events", 2)
    batches = {partition: [(b"%d" % i, bytes(100_000)) for i in range(150)] for partition in range(2)}

    assert log.append_many("events", batches) == {0: 0, 1: 0}
    assert log.end_offsets("events") == {0: 150, 1: 150}
    assert list(log.read("events", 1, 0, 200).keys) == [b"%d" % i for i in range(150)]


def test_record_needs_a_key_or_a_value(log: EventLog) -> None:
    log.create("events", 1)

    with pytest.raises(ValueError, match="needs a key or a value"):
        log.append("events", 0, [(None, None)])


# Connections


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("kafka:", "must name a broker"),
        ("kafka://broker", "must be host:port"),
        ("kafka://a:1,b:x", r"must be host:port.*'b:\*\*\*'"),
        ("kafka://a:1?sasl_user=x", "unknown setting 'sasl_user'; the nearest valid name is 'sasl_username'"),
        ("kafka://u:open-sesame@a:1", "must be parameters: sasl_username"),
        ("kafka://a:1?sasl_password=open&sesame", "parameter 2 of the log URL is not name=value"),
        ("kafka://a:1?session=never", "session in the log URL must be a number"),
        ("kafka://a:1?client=rdkafka", "client in the log URL must be kafka-python or confluent, got 'rdkafka'"),
    ],
)
def test_invalid_url_error_names_the_cause(url: str, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        open_log(url)


def test_missing_client_package_error_shows_the_fix() -> None:
    script = (
        "import sys\nsys.modules['confluent_kafka'] = None\nfrom stream.drivers import open_log\n"
        "open_log('kafka://a:1?client=confluent')"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert "needs the package confluent_kafka: pip install 'headrace[fast-kafka]'" in process.stderr


def test_printed_settings_contain_no_secret() -> None:
    kafka_settings = parse_url("kafka://a:1?security_protocol=SASL_SSL&sasl_username=me&sasl_password=p%40ss")

    assert kafka_settings.security["sasl_plain_password"] == "p@ss"
    assert str(kafka_settings) == "kafka://a:1"


def connect_in_subprocess(url: str, prefix: str) -> str:
    """Create a topic in a new process; returns its output or error.

    The clients leak connections that fail.
    """
    script = (
        "import sys\nfrom stream.drivers import open_log\n"
        "log = open_log(sys.argv[1], sys.argv[2])\nlog.create('events', 1)\n"
        "print(log.append('events', 0, [(b'k', b'v')]))\nlog.close()\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", script, url, prefix], capture_output=True, text=True, timeout=60, check=False
    )
    return process.stdout.strip() or process.stderr.strip().split("\n")[-1]


def test_unreachable_broker_error_shows_the_fix(prefix: str, client: str) -> None:
    (port,) = free_ports(1)
    output = connect_in_subprocess(f"kafka://127.0.0.1:{port}?patience=1&client={client}", prefix)

    assert re.match(rf"ConnectionError: .*HEADRACE_LOG__URL.*kafka://127\.0\.0\.1:{port}'$", output), output


@pytest.mark.parametrize(("password", "expected"), [(PASSWORD, "0"), ("wrong", "PermissionError: .*correct security_")])
def test_credentials_reach_the_broker(kafka_url: str, prefix: str, client: str, password: str, expected: str) -> None:
    assert kafka_url
    parameters = f"&sasl_username={USER}&sasl_password={password}&patience=3&client={client}"
    output = connect_in_subprocess(f"{listener_urls['sasl_url']}{parameters}", prefix)

    assert re.match(expected, output), output
    assert password not in output
