"""On a real Kafka and a real Redis: whatever dies or comes and goes under load, every event counts exactly once."""

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import create_or_skip
from tests.support.processes import HEADRACE, Running
from tests.support.services import Kafka, Redis
from tests.system.test_kills import ITEMS, Producer, assert_counted_once, shop

PARTITIONS = 12


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[Kafka]:
    broker = create_or_skip(lambda: Kafka(tmp_path / "kafka"))
    broker.start()
    yield broker
    broker.stop()


def running_on(folder: Path, kafka: Kafka, redis: Redis) -> Running:
    return Running(
        folder,
        HEADRACE_LOG__URL=f"{kafka.url}?session=6",
        HEADRACE_LOG__PARTITIONS=str(PARTITIONS),
        HEADRACE_STORE__URL=redis.url,
        HEADRACE_LEARN__CHECKPOINT_EVERY="1",
        HEADRACE_STREAM__ATTRIBUTION_WINDOW="2",
        HEADRACE_STREAM__ALLOWED_LATENESS="1",
    )


@contextmanager
def under_load(running: Running) -> Iterator[Producer]:
    """Events and questions while the block runs; after it, everything is settled."""
    running.http.post("/v1/items", json=[{"item_id": item, "categories": [f"c{len(item)}"]} for item in ITEMS])
    producer = Producer(running, seed=1)
    shopper = threading.Thread(target=shop, args=(running.port, producer.enough), daemon=True)
    producer.start()
    shopper.start()
    time.sleep(2)
    yield producer
    time.sleep(1)
    producer.enough.set()
    producer.join()
    shopper.join()
    running.wait_until_ready()
    running.settle()


@contextmanager
def more_streams(running: Running, *names: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Workers of the same group that come together, each with partitions of its own before the block begins."""
    environ = {**running.environ, "HEADRACE_STREAM__METRICS_PORT": "0"}
    told = [running.folder / f"{name}.log" for name in names]
    workers = []
    for path in told:
        with path.open("wb") as output:
            workers.append(subprocess.Popen([*HEADRACE, "stream"], env=environ, stdout=output, stderr=output))
    try:
        deadline = time.monotonic() + 60
        while not all("events from" in path.read_text() for path in told):
            assert time.monotonic() < deadline, [path.read_text() for path in told]
            time.sleep(0.1)
        yield workers
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in workers:
            worker.wait(20)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_brokers_and_workers_come_and_go(tmp_path: Path, kafka: Kafka) -> None:
    redis = create_or_skip(lambda: Redis(tmp_path / "redis", is_persistent=True))
    redis.start()
    try:
        with running_on(tmp_path / "data", kafka, redis) as running:
            with under_load(running) as producer:
                for verb in ("stream", "learn", "stream"):
                    running.kill(verb)
                    running.wait_for_progress()
                with more_streams(running, "second", "third") as (second, third):
                    running.wait_for_progress()
                    os.kill(third.pid, signal.SIGKILL)  # its partitions wait for the end of its session
                    time.sleep(2)
                    running.wait_for_progress()
                    os.kill(second.pid, signal.SIGSTOP)  # longer than its session: others take over, then it wakes up
                    time.sleep(9)
                    os.kill(second.pid, signal.SIGCONT)
                    running.wait_for_progress()
                redis.kill()
                time.sleep(1)
                redis.start()
                running.wait_for_progress()
                kafka.kill()
                time.sleep(1)
                kafka.start()
                running.wait_for_progress(patience=90)
            assert_counted_once(running, producer.sent)
            again = running.json("replay", "run")

        assert len(producer.sent) > 1_000
        assert again["equal"], again
        assert again["users"] >= 41
    finally:
        redis.stop()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_redis_that_lost_everything_is_filled_again_out_of_the_log(tmp_path: Path, kafka: Kafka) -> None:
    redis = create_or_skip(lambda: Redis(tmp_path / "redis"))
    redis.start()
    try:
        with running_on(tmp_path / "data", kafka, redis) as running:
            with under_load(running) as producer:
                for _ in range(2):
                    redis.kill()
                    time.sleep(random.Random(1).random())
                    redis.start()
                    running.wait_for_progress()
            assert_counted_once(running, producer.sent)
            again = running.json("replay", "run")

        # Examples of the moment between the loss and its discovery say what was known then: less than there was.
        assert not again["users_different"]
        assert not again["arrays_different"]
        assert again["users"] >= 41
    finally:
        redis.stop()
