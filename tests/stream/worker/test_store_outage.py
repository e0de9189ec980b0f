"""A stream worker waits while its store rejects writes, and continues by itself."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event as Signal

import msgspec
import pytest

from stream.config import Settings
from stream.drivers import open_store
from stream.ids import hash_id
from stream.logs import EventLog
from stream.testing import ManualClock, memory_system
from stream.topics import EVENTS
from stream.users.profiles import decode_profile
from stream.worker.worker import StreamWorker
from tests.conftest import create_or_skip
from tests.support.events import START
from tests.support.services import Redis

SECRET_ITEM = "divorce-lawyer"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    service = create_or_skip(lambda: Redis(tmp_path / "redis"))
    service.start()
    yield service
    service.stop()


def run_commands(redis: Redis, *commands: str) -> None:
    """Send administrative commands on one connection."""
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as connection:
        for command in commands:
            connection.sendall(command.encode() + b"\r\n")
            assert not connection.recv(4096).startswith(b"-")


def append_click(log: EventLog, event_id: str) -> None:
    event = {"event_id": event_id, "type": "click", "ts": START, "user_id": "ann", "item_id": SECRET_ITEM}
    log.append(EVENTS, 0, [(b"ann", msgspec.json.encode(event))])


def count_events(redis: Redis) -> int:
    """Events in the stored record of the user."""
    store = open_store(redis.url)
    value = store.get(hash_id("ann"))
    store.close()
    return 0 if value is None else int(decode_profile(value).counts.sum())


@contextmanager
def run_worker(log: EventLog, url: str) -> Iterator[threading.Thread]:
    store, stop = open_store(url), Signal()
    settings = Settings.model_validate({"events": {"max_age": 0}})
    thread = threading.Thread(target=StreamWorker(log, store, settings).run, args=(stop,))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)
        store.close()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("failure", "repair"),
    [
        pytest.param(["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], id="demoted"),
        pytest.param(["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], id="full"),
        pytest.param(
            ["CONFIG SET requirepass rotated", "CLIENT KILL TYPE normal SKIPME yes"],
            ["AUTH rotated", 'CONFIG SET requirepass ""'],
            id="password rotated",
        ),
    ],
)
def test_worker_survives_a_store_that_rejects_it(
    redis: Redis, caplog: pytest.LogCaptureFixture, failure: list[str], repair: list[str]
) -> None:
    caplog.set_level(logging.INFO)
    log, _, _ = memory_system(clock=ManualClock(START))
    with run_worker(log, redis.url) as thread:
        append_click(log, "e1")
        wait_until(lambda: count_events(redis) == 1)
        run_commands(redis, *failure)
        append_click(log, "e2")
        wait_until(lambda: "restarting all partitions" in caplog.text)
        time.sleep(1.2)  # several attempts
        run_commands(redis, *repair)
        wait_until(lambda: count_events(redis) == 2)
        wait_until(lambda: "all partitions run again" in caplog.text)

        assert thread.is_alive()
    assert caplog.text.count("restarting all partitions") == 1
    assert SECRET_ITEM not in caplog.text


def test_wrong_password_from_the_start_ends_the_worker(redis: Redis) -> None:
    run_commands(redis, "CONFIG SET requirepass open-sesame")
    log, _, _ = memory_system(clock=ManualClock(START))
    store = open_store(redis.url)
    append_click(log, "e1")
    with pytest.raises(PermissionError, match="correct user and password"):
        StreamWorker(log, store, Settings()).run(Signal())
    store.close()
