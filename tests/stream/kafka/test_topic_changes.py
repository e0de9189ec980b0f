"""Topics that were deleted, replaced or extended are refused, at start and while in use."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka.admin import NewPartitions

from stream.clock import SystemClock
from stream.config import LogSettings, Settings
from stream.kafka.kafka_python.connections import create_admin_client
from stream.kafka.url import CLIENTS, parse_url
from stream.logs import EventLog, TopicChanged
from stream.testing import MemoryStore
from stream.topics import EVENTS, USERS, open_topics
from stream.worker.worker import StreamWorker
from tests.support.foreign_producers import run_transaction

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def prefix() -> str:
    return f"{uuid4()}."


@pytest.fixture
def settings(kafka_url: str, prefix: str) -> Settings:
    return Settings(log=LogSettings(url=kafka_url, prefix=prefix, partitions=2))


@pytest.fixture
def admin(kafka_url: str) -> Iterator[Any]:
    client = create_admin_client(parse_url(kafka_url))
    yield client
    client.close()


def add_partitions(admin: Any, name: str) -> None:
    admin.create_partitions({name: NewPartitions(6)})


def delete_topic(admin: Any, name: str) -> None:
    admin.delete_topics([name])
    deadline = time.monotonic() + 20
    while admin.describe_topics([name])[0]["partitions"] and time.monotonic() < deadline:
        time.sleep(0.05)


def replace_topic(admin: Any, name: str) -> None:
    delete_topic(admin, name)
    spec = {"num_partitions": 2, "replication_factor": 1}
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            admin.create_topics({name: spec}, wait_for_metadata=True)
            return
        except Exception:  # its files are still being deleted
            time.sleep(0.1)


CHANGES = [
    (add_partitions, "was created with 2 partitions and has 6 now.*HEADRACE_LOG__PREFIX"),
    (replace_topic, r"was deleted and created again, or the log is another one \(id"),
    (delete_topic, "was deleted: restore it"),
]


@pytest.mark.parametrize(("change", "error"), CHANGES, ids=["extended", "replaced", "deleted"])
def test_changed_topic_is_refused_at_start_and_while_running(
    settings: Settings, prefix: str, admin: Any, change: Callable[[Any, str], None], error: str
) -> None:
    log = open_topics(settings, SystemClock())
    log.end_offsets(EVENTS)  # starts to watch the topics
    change(admin, f"{prefix}events")

    for partitions in (2, 6):  # the advice of one refusal does not lead to the next one
        changed = settings.model_copy(update={"log": settings.log.model_copy(update={"partitions": partitions})})
        with pytest.raises(TopicChanged, match=f"topic 'events' {error}"):
            open_topics(changed, SystemClock())
    with pytest.raises(TopicChanged, match=f"topic 'events' {error}"):
        poll_until_refused(log)
    log.close()


def poll_until_refused(log: EventLog) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        log.end_offsets(USERS)  # any topic
        time.sleep(0.05)


COMMANDS = ["stream", "serve", "check --json"]  # the others open the topics in the same way


def test_processes_refuse_added_partitions(
    kafka_url: str, prefix: str, settings: Settings, admin: Any, tmp_path: Path
) -> None:
    open_topics(settings, SystemClock()).close()
    add_partitions(admin, f"{prefix}events")
    environ = {
        "HEADRACE_LOG__URL": kafka_url, "HEADRACE_LOG__PREFIX": prefix, "HEADRACE_LOG__PARTITIONS": "2",
        "HEADRACE_STREAM__METRICS_PORT": "0", "HEADRACE_LEARN__METRICS_PORT": "0", "HEADRACE_SERVE__PORT": "0",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    processes = {
        command: subprocess.Popen(
            [sys.executable, "-m", "headrace", *command.split()],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=os.environ | environ,
        )
        for command in COMMANDS
    }  # fmt: skip
    outputs = {command: process.communicate(timeout=90)[0] for command, process in processes.items()}

    for command, output in outputs.items():
        assert processes[command].returncode, command
        assert "Traceback" not in output, output
        assert "was created with 2 partitions and has 6 now" in output, output
        assert "see the section Partitions of docs/kafka.md" in output


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("is_committed", [False, True])
def test_lag_behind_transactions_reaches_zero(kafka_url: str, prefix: str, client: str, is_committed: bool) -> None:
    log_settings = LogSettings(url=f"{kafka_url}?client={client}", prefix=prefix)
    log, store = open_topics(Settings(log=log_settings), SystemClock()), MemoryStore()
    worker = StreamWorker(log, store, Settings())
    event = b'{"event_id":"e","type":"click","ts":%d,"user_id":"u","item_id":"a"}' % SystemClock().now_ms()
    run_transaction(kafka_url, f"{prefix}events", [event], is_committed)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        worker.step(timeout=0.2)
        position = log.committed(EVENTS, "stream").get(0)
        if position and position.offset == log.end_offset(EVENTS, 0) == 2:
            break
    restarted = MemoryStore()
    restarted.restore(store.snapshot())
    worker.close()
    worker = StreamWorker(log, restarted, Settings())
    worker.step(timeout=0)

    assert log.committed(EVENTS, "stream")[0].offset == log.end_offset(EVENTS, 0) == 2
    assert store.count() == is_committed
    worker.close()
    log.close()
