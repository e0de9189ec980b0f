"""While the broker is away, writes are rejected in time and recommendations go on."""

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from stream.kafka.url import CLIENTS
from tests.conftest import create_or_skip
from tests.serving.test_server import run_serve, wait_until
from tests.support.services import Kafka


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    broker = create_or_skip(lambda: Kafka(tmp_path_factory.mktemp("kafka")))
    yield broker
    broker.kill()


@pytest.fixture
def kafka(broker: Kafka) -> Kafka:
    broker.start()
    return broker


def make_event(number: int) -> dict[str, Any]:
    return {
        "event_id": f"e{number}", "type": "click", "ts": int(time.time() * 1000), "user_id": "u1", "item_id": "a"
    }  # fmt: skip


def time_request(http: httpx.Client, method: str, path: str, body: object = None) -> tuple[int, float]:
    """Status and seconds of a request."""
    started = time.monotonic()
    status = http.request(method, path, json=body).status_code
    return status, time.monotonic() - started


@pytest.mark.slow
@pytest.mark.parametrize("client", CLIENTS)
def test_requests_are_answered_while_the_broker_is_away(tmp_path: Path, kafka: Kafka, client: str) -> None:
    url = f"{kafka.url}?client={client}"
    with run_serve(
        tmp_path, HEADRACE_LOG__URL=url, HEADRACE_LOG__PREFIX=f"{client}.", HEADRACE_SERVE__LOG_TIMEOUT="1.8"
    ) as (process, http):
        wait_until(lambda: http.get("/readyz").status_code == 200)
        items = [{"item_id": "a"}, {"item_id": "b"}]
        wait_until(lambda: http.post("/v1/items", json=items).status_code == 202)
        assert http.post("/v1/events", json=make_event(0)).status_code == 202

        kafka.kill()
        recommendation = ("POST", "/v1/recommendations", {"user_id": "u1", "k": 2})
        first = [
            time_request(http, "POST", "/v1/events", make_event(1)),
            time_request(http, "POST", "/v1/items", items),
            time_request(http, "GET", "/v1/lag"),
        ]
        later = [
            time_request(http, *request)
            for n in range(2, 6)
            for request in (("POST", "/v1/events", make_event(n)), ("POST", "/v1/items", items), ("GET", "/v1/lag"))
        ]
        slates = [time_request(http, *recommendation) for _ in range(5)]
        lag = http.get("/v1/lag").json()
        ready = http.get("/readyz").status_code

        assert [status for status, _ in first] == [503, 503, 503]
        assert max(seconds for _, seconds in first) < 2.5
        assert {status for status, _ in later} == {503}
        assert max(seconds for _, seconds in later) < 1
        assert {status for status, _ in slates} == {200}
        assert max(seconds for _, seconds in slates) < 1
        assert lag.keys() >= {"last_known_events", "age_seconds"}
        assert ready == 200

        kafka.start()
        wait_until(lambda: http.post("/v1/events", json=make_event(9)).status_code == 202, timeout_s=90)
        wait_until(lambda: http.get("/v1/lag").status_code == 200, timeout_s=60)
        kafka.kill()
        time_request(http, "POST", "/v1/events", make_event(10))
        process.send_signal(signal.SIGTERM)
        _, output = process.communicate(timeout=10)

    lines = [line for line in output.splitlines() if re.search("WARNING|ERROR|CRITICAL", line)]
    assert process.returncode == 0
    assert 2 <= len(lines) <= 10, lines
    assert not [line for line in lines if re.search(r"KafkaConnection\b|rdkafka", line)]  # of the clients themselves
    assert output.count("the event log accepts writes again") == 1
