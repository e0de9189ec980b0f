"""Heartbeats are a metric, and the first one reports the process as ready."""

import os
import socket
import time
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from stream.monitoring.heartbeat import Heartbeat


def read_heartbeat(process: str) -> float | None:
    return REGISTRY.get_sample_value("headrace_heartbeat_timestamp_seconds", {"process": process})


def test_metric_is_the_time_of_the_last_round() -> None:
    heartbeat = Heartbeat("test")
    before = read_heartbeat("test")
    started = time.time()
    heartbeat.beat()
    after = read_heartbeat("test")

    assert before == 0
    assert after is not None
    assert started <= after <= time.time()


def test_first_heartbeat_reports_readiness_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        heartbeat = Heartbeat("test")
        heartbeat.beat()
        heartbeat.beat()

        assert receiver.recv(100) == f"READY=1\nMAINPID={os.getpid()}".encode()
        with pytest.raises(BlockingIOError):
            receiver.recv(100)


def test_missing_supervisor_does_not_stop_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    Heartbeat("test").beat()

    assert read_heartbeat("test")
