"""`headrace check` on running processes: green when all is well, red for each fault."""

import json
import os
import signal
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import VERBS, RunningSystem

Rows = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    with RunningSystem(tmp_path_factory.mktemp("check")) as running:
        running.http.post("/v1/items", json=[{"item_id": "a"}]).raise_for_status()
        send_clicks(running, "good", 500)
        running.settle()
        yield running


@pytest.fixture(scope="module")
def hanging(running: RunningSystem) -> Rows:
    """Rows while every process hangs, with events on their way."""
    pids = running.children()
    os.kill(pids["stream"], signal.SIGSTOP)
    send_clicks(running, "waiting", 3)
    for verb in ("learn", "serve"):
        os.kill(pids[verb], signal.SIGSTOP)
    try:
        return check(running, expected_code=1)
    finally:
        for pid in pids.values():
            os.kill(pid, signal.SIGCONT)
        running.settle()


@pytest.fixture(scope="module")
def troubled(running: RunningSystem) -> Rows:
    """Rows after a flood and rejected events, with training paused."""
    now = int(time.time() * 1000)
    flood = [
        {"event_id": f"flood{n}", "type": "click", "ts": now + n, "user_id": "bot", "item_id": "a"} for n in range(300)
    ]
    running.http.post("/v1/events", json=flood).raise_for_status()
    send_clicks(running, "old", 100, ts=1)
    running.settle()
    running.command("models", "pause")
    running.wait_until(lambda: running.metric("learn", "headrace_learn_paused") == 1)
    return check(running, expected_code=1)


@pytest.fixture(scope="module")
def repaired(running: RunningSystem, troubled: Rows) -> Rows:
    """Rows after an operator has acted on the trouble."""
    quarantined = [action["event_id"] for action in running.json("quarantine", "list")]
    running.command("quarantine", "drop", *quarantined)
    running.command("models", "resume")
    running.wait_until(lambda: running.metric("learn", "headrace_learn_paused") == 0)
    return check(running, expected_code=1)  # the dead letters stay for an hour


def send_clicks(running: RunningSystem, prefix: str, count: int, **fields: Any) -> None:
    now = int(time.time() * 1000)
    clicks = [
        {"event_id": f"{prefix}{n}", "type": "click", "ts": now, "user_id": f"{prefix}{n}", "item_id": "a"} | fields
        for n in range(count)
    ]
    running.http.post("/v1/events", json=clicks).raise_for_status()


def check(running: RunningSystem, expected_code: int) -> Rows:
    """Rows of the check by name."""
    done = running.command("check", "--json")
    report = json.loads(done.stdout)

    assert (done.returncode, report["ok"]) == (expected_code, expected_code == 0), report
    return {row["name"]: row for row in report["checks"]}


def test_running_system_is_green(running: RunningSystem) -> None:
    rows = check(running, expected_code=0)

    assert all("running at" in rows[verb]["detail"] for verb in VERBS)
    assert "500 events (0 unread)" in rows["event log"]["detail"]


@pytest.mark.parametrize("verb", VERBS)
def test_hanging_process_is_red(hanging: Rows, verb: str) -> None:
    assert not hanging[verb]["ok"]
    assert f"restart headrace {verb}" in hanging[verb]["fix"]


def test_events_that_wait_for_a_hanging_process_are_red(hanging: Rows) -> None:
    assert "3 events wait for stream" in hanging["event flow"]["detail"]
    assert "headrace stream" in hanging["event flow"]["fix"]


def test_paused_training_is_red_until_it_resumes(troubled: Rows, repaired: Rows) -> None:
    assert "training is paused" in troubled["learn"]["detail"]
    assert "headrace models resume" in troubled["learn"]["fix"]
    assert repaired["learn"]["ok"]


def test_rejected_events_are_red_with_their_reason(troubled: Rows) -> None:
    assert not troubled["dead letters"]["ok"]
    assert "too_old" in troubled["dead letters"]["detail"]
    assert "HEADRACE_EVENTS__MAX_AGE" in troubled["dead letters"]["fix"]


def test_quarantine_is_red_until_somebody_decides(troubled: Rows, repaired: Rows) -> None:
    assert "flood" in troubled["quarantine"]["detail"]
    assert "headrace quarantine list" in troubled["quarantine"]["fix"]
    assert repaired["quarantine"]["detail"] == "empty"


def test_alarm_is_red_until_somebody_decides(troubled: Rows, repaired: Rows) -> None:
    assert "poison, flood" in troubled["alarms"]["detail"]
    assert "remedy: quarantine" in troubled["alarms"]["detail"]
    assert repaired["alarms"]["ok"]


def test_cluster_is_checked_from_another_machine(kafka_url: str, redis_url: str, tmp_path: Path) -> None:
    prefix = f"check-{uuid.uuid4().hex[:8]}-"
    cluster = {"LOG__URL": kafka_url, "STORE__URL": redis_url, "LOG__PREFIX": prefix, "STORE__PREFIX": prefix}
    elsewhere = {"HEADRACE_STREAM__METRICS_PORT": "1", "HEADRACE_LEARN__METRICS_PORT": "2", "HEADRACE_SERVE__PORT": "3"}
    with RunningSystem(tmp_path, **{f"HEADRACE_{name}": value for name, value in cluster.items()}) as running:
        send_clicks(running, "good", 50)
        running.settle()
        ports = {
            "stream": running.environ["HEADRACE_STREAM__METRICS_PORT"],
            "learn": running.environ["HEADRACE_LEARN__METRICS_PORT"],
            "serve": running.port,
        }
        addresses = [word for verb, port in ports.items() for word in ("--at", f"{verb}=127.0.0.1:{port}")]
        named = running.command("check", *addresses, environ=elsewhere)
        unnamed = running.command("check", environ=elsewhere)
        running.stop()
        stopped = running.command("check")

    assert named.returncode == 0, named.stdout
    assert unnamed.returncode == 1
    assert "headrace check --at stream=HOST:PORT" in unnamed.stdout
    assert stopped.returncode == 1
    assert "not running" in stopped.stdout


def test_stopped_processes_are_red(running: RunningSystem) -> None:
    running.stop()
    rows = check(running, expected_code=1)

    assert {verb: rows[verb]["fix"] for verb in VERBS} == dict.fromkeys(VERBS, "start headrace up")
    assert all("not running" in rows[verb]["detail"] for verb in VERBS)
