"""A backup under load has every acknowledged event, and its replay is equal."""

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import RunningSystem

SETTINGS = {"HEADRACE_LEARN__CHECKPOINT_EVERY": "1"}


class Producer(threading.Thread):
    """Send small lists of events without pause; note those that are acknowledged."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.stop = threading.Event()
        self.acknowledged: list[str] = []
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)

    def run(self) -> None:
        with self._http:
            while not self.stop.is_set():
                events = [make_event(len(self.acknowledged) + n) for n in range(20)]
                if self._http.post("/v1/events", json=events).status_code == 202:
                    self.acknowledged += [event["event_id"] for event in events]


def make_event(n: int) -> dict[str, Any]:
    ts = int(time.time() * 1000)
    return {"event_id": f"e{n}", "type": "click", "ts": ts, "user_id": f"u{n % 97}", "item_id": f"i{n % 31}"}


@pytest.mark.slow
def test_backup_under_load_loses_nothing_and_replays_equal(tmp_path: Path) -> None:
    with RunningSystem(tmp_path / "live", **SETTINGS) as system:
        producer = Producer(system.port)
        producer.start()
        system.wait_until(lambda: len(system.json("models", "list")) >= 2)
        before = list(producer.acknowledged)
        done = system.command("backup", str(tmp_path / "backup"))
        n_after = len(producer.acknowledged)
        producer.stop.set()
        producer.join()

    assert done.returncode == 0, done.stderr
    assert n_after > len(before) > 0
    restored = RunningSystem(tmp_path / "restored", **SETTINGS)
    assert restored.command("restore", str(tmp_path / "backup")).returncode == 0
    with restored:
        restored.settle()
        rows = restored.json("events", "read", "--from", "0", "--limit", "1000000")
        ids = {row["value"]["event_id"] for row in rows}
        result = restored.json("replay", "run")

    assert set(before) <= ids
    assert result["equal"], json.dumps(result)
    assert result["events"] == len(rows)
