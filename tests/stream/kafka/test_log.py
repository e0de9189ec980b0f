"""What only Kafka does: it shares partitions out, asks for passwords, and may be away. See test_logs for the rest."""

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
from stream.kafka.kafka_python.connections import admin
from stream.kafka.url import CLIENTS, parse_url
from stream.logs import EventLog, Fenced, Position, Source
from stream.testing import MemoryStore
from stream.worker.worker import StreamWorker
from tests.conftest import doors
from tests.support.services import PASSWORD, USER, free_ports

TOPICS = ("events", "examples", "users", "dead-letter", "quarantine", "alarms")


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
    opened = open_log(url, prefix)
    yield opened
    opened.close()


def turns(sources: list[Source], holds: object, patience: float = 30.0) -> None:
    """Let sources read in turn until something holds."""
    deadline = time.monotonic() + patience
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, [sorted(source.snapshot()) for source in sources]
        for source in sources:
            source.next_batch(100, timeout=0.1)


# Groups


@pytest.mark.parametrize("other", ["the same client", "the other client"])
def test_a_second_member_gets_a_share_and_gives_it_back(
    log: EventLog, url: str, client: str, other: str, prefix: str
) -> None:
    log.create("events", 4)
    log.append_many("events", {partition: [(b"k", b"v")] * 3 for partition in range(4)})
    lost: list[frozenset[int]] = []
    first = log.source("events", "g", revoked=lost.append)
    assert sorted(first.snapshot()) == [0, 1, 2, 3]
    first.next_batch(100, timeout=5.0)
    first.commit({partition: Position(2, "half") for partition in range(4)})
    others = open_log(url if other == "the same client" else url.replace(client, the_other(client)), prefix)
    second: list[Source] = []
    joining = threading.Thread(target=lambda: second.append(others.source("events", "g")))
    joining.start()
    while joining.is_alive():
        first.next_batch(100, timeout=0.1)
    turns([first, *second], lambda: len(first.snapshot()) == len(second[0].snapshot()) == 2)
    shared = second[0].snapshot()
    handed = second[0].committed()
    others.close()
    turns([first], lambda: len(first.snapshot()) == 4)

    assert frozenset().union(*lost) == shared.keys()
    assert handed == dict.fromkeys(shared, Position(2, "half"))
    assert all(first.snapshot()[partition] in (2, 3) for partition in shared)


def the_other(client: str) -> str:
    (name,) = set(CLIENTS) - {client}
    return name


def test_a_member_whose_name_was_taken_ends_and_says_who_has_it(url: str, prefix: str) -> None:
    logs = [open_log(f"{url}&member=worker-1", prefix) for _ in range(2)]
    logs[0].create("events", 1)
    logs[0].append("events", 0, [(b"k", b"v")])
    late = logs[0].source("events", "g")
    late.commit({0: Position(0, "machine-a:17")})
    newer = logs[1].source("events", "g")
    newer.commit({0: Position(1, "machine-b:4")})

    assert newer.snapshot() == {0: 0}
    for _ in range(2):  # and again: it never takes the name back
        with pytest.raises(Fenced, match=r"member=worker-1.*\(machine-b:4\).*another member= in its HEADRACE_LOG__URL"):
            late.commit({0: Position(1)})
    with pytest.raises(Fenced, match="machine-b:4"):
        turns([late], lambda: False)
    newer.commit({0: Position(1)})
    for log in logs:
        log.close()


def test_a_worker_whose_name_was_taken_ends_instead_of_trying_again(url: str, prefix: str) -> None:
    logs = [open_log(f"{url}&member=worker-1", prefix) for _ in range(2)]
    for topic in TOPICS:
        logs[0].create(topic, 1, compacted=topic == "users")
    store, stop = MemoryStore(), threading.Event()
    late = StreamWorker(logs[0], store, Settings())
    late.step(timeout=0)
    newer = StreamWorker(logs[1], store, Settings())
    newer.step(timeout=0)
    event = b'{"event_id":"e","type":"click","ts":%d,"user_id":"u","item_id":"a"}' % SystemClock().now_ms()
    logs[1].append("events", 0, [(b"u", event)])

    with pytest.raises(Fenced, match="another process goes by member=worker-1"):
        late.run(threading.Event())
    working = threading.Thread(target=newer.run, args=(stop,))
    working.start()
    deadline = time.monotonic() + 20
    while logs[1].committed("events", "stream")[0].offset < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    stop.set()
    working.join()

    assert logs[1].committed("events", "stream")[0].offset == 1
    assert store.count() == 1
    for log in logs:
        log.close()


def test_a_group_that_is_ahead_of_its_topic_is_told_instead_of_skipping(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, [(b"k", b"v")])
    source = log.source("events", "g", partitions=[0])
    source.commit({0: Position(5)})
    source.close()

    with pytest.raises(ValueError, match="'g' has read topic 'events', partition 0, up to offset 5, but it ends at 1"):
        log.source("events", "g", partitions=[0])


def test_a_position_that_retention_has_deleted_goes_on_at_the_start(log: EventLog) -> None:
    log.create("events", 1)
    log.append("events", 0, [(b"k", b"%d" % i) for i in range(10)])
    log.source("events", "g", partitions=[0]).commit({0: Position(3)})
    log.trim("events", 0, 7)
    source = log.source("events", "g", partitions=[0])
    (records,) = source.next_batch(10, timeout=10.0)

    assert list(records.values) == [b"7", b"8", b"9"]


# Says in MiB what is in memory more than before: after one record was read, at most while none is, and until all are.
SLOW_READER = """
import sys, time
from stream.drivers import open_log
def told(name): return int(open("/proc/self/status").read().partition(name)[2].split()[0]) >> 10
log = open_log(sys.argv[1], sys.argv[2])
before, seen = told("VmRSS:"), 0
source = log.source("events", "g")
while not seen:
    seen += sum(map(len, source.next_batch(1, 5.0)))
time.sleep(1)  # what was asked for has come
waiting = [told("VmRSS:") - before]
for _ in range(10):
    time.sleep(0.2)
    waiting.append(told("VmRSS:") - before)
while seen < int(sys.argv[3]):
    seen += sum(map(len, source.next_batch(4, 5.0)))
print(seen, waiting[0], max(waiting), told("VmHWM:") - before)
log.close()
"""


@pytest.mark.slow
def test_a_reader_that_reads_slowly_or_not_at_all_keeps_to_a_limit(
    log: EventLog, url: str, prefix: str, client: str
) -> None:
    log.create("events", 4)
    for _ in range(8):  # batches as large as they get, of which a broker sends each as a whole
        log.append_many("events", {partition: [(b"k", bytes(250_000))] * 32 for partition in range(4)})
    done = subprocess.run(
        [sys.executable, "-c", SLOW_READER, url, prefix, "1024"], capture_output=True, text=True, timeout=90, check=True
    )
    seen, first, waiting, most = map(int, done.stdout.split())

    assert seen == 1024
    assert waiting - first < 16
    assert most < {"kafka-python": 160, "confluent": 64}[client], "MiB, of 244 in the topic"


# Topics


def test_topics_are_made_for_events_and_for_tables(log: EventLog, url: str, prefix: str) -> None:
    from kafka.admin import ConfigResource

    log.create("events", 2)
    log.create("items", 1, compacted=True)
    client = admin(parse_url(url))
    asked = [ConfigResource("topic", prefix + topic) for topic in ("events", "items")]
    told = client.describe_configs(asked, config_filter="all")["topic"]
    client.close()

    assert [told[prefix + topic]["cleanup.policy"]["value"] for topic in ("events", "items")] == ["delete", "compact"]
    assert told[prefix + "events"]["message.timestamp.type"]["value"] == "LogAppendTime"
    assert told[prefix + "events"]["retention.ms"]["value"] == "-1"


def test_a_topic_of_another_policy_is_refused_with_the_command_that_mends_it(log: EventLog) -> None:
    log.create("items", 1)

    with pytest.raises(ValueError, match=r"another cleanup\.policy than 'compact': run kafka-configs\.sh .*items"):
        log.create("items", 1, compacted=True)


def test_appends_are_whole_however_large(log: EventLog) -> None:
    log.create("events", 2)
    sent = {partition: [(b"%d" % i, bytes(100_000)) for i in range(150)] for partition in range(2)}

    assert log.append_many("events", sent) == {0: 0, 1: 0}
    assert log.ends("events") == {0: 150, 1: 150}
    assert list(log.read("events", 1, 0, 200).keys) == [b"%d" % i for i in range(150)]


def test_a_record_needs_a_key_or_a_value(log: EventLog) -> None:
    log.create("events", 1)

    with pytest.raises(ValueError, match="needs a key or a value"):
        log.append("events", 0, [(None, None)])


# The way in


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("kafka:", "must name a broker"),
        ("kafka://broker", "must be host:port"),
        ("kafka://a:1,b:x", "must be host:port.*'b:x'"),
        ("kafka://a:1?sasl_user=x", "unknown setting 'sasl_user'; the nearest valid name is 'sasl_username'"),
        ("kafka://a:1?session=never", "session in the log url must be a number"),
        ("kafka://a:1?client=rdkafka", "client in the log url must be kafka-python or confluent, got 'rdkafka'"),
    ],
)
def test_a_url_that_is_not_understood_says_why(url: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        open_log(url)


def test_a_client_that_is_not_installed_is_named_with_its_mend() -> None:
    script = (
        "import sys\nsys.modules['confluent_kafka'] = None\nfrom stream.drivers import open_log\n"
        "open_log('kafka://a:1?client=confluent')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert "needs the package confluent_kafka: pip install 'headrace[fast-kafka]'" in done.stderr


def test_no_secret_is_in_what_is_told() -> None:
    brokers = parse_url("kafka://a:1?security_protocol=SASL_SSL&sasl_username=me&sasl_password=p%40ss")

    assert brokers.security["sasl_plain_password"] == "p@ss"
    assert str(brokers) == "kafka://a:1"


def knock(url: str, prefix: str) -> str:
    """What another process is told that makes a topic there; the client leaves open what it could not connect."""
    script = (
        "import sys\nfrom stream.drivers import open_log\n"
        "log = open_log(sys.argv[1], sys.argv[2])\nlog.create('events', 1)\n"
        "print(log.append('events', 0, [(b'k', b'v')]))\nlog.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, url, prefix], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout.strip() or done.stderr.strip().split("\n")[-1]


def test_a_broker_that_is_away_is_named_with_its_mend(prefix: str, client: str) -> None:
    (port,) = free_ports(1)
    told = knock(f"kafka://127.0.0.1:{port}?patience=1&client={client}", prefix)

    assert re.match(rf"ConnectionError: .*HEADRACE_LOG__URL.*kafka://127\.0\.0\.1:{port}'$", told), told


@pytest.mark.parametrize(("password", "answer"), [(PASSWORD, "0"), ("wrong", "PermissionError: .*correct security_")])
def test_credentials_are_passed_on(kafka_url: str, prefix: str, client: str, password: str, answer: str) -> None:
    assert kafka_url
    way_in = f"&sasl_username={USER}&sasl_password={password}&patience=3&client={client}"
    told = knock(f"{doors['asking_url']}{way_in}", prefix)

    assert re.match(answer, told), told
    assert password not in told
