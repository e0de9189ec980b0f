"""The guard in the real processes: quarantine, release, drop, pause and resume."""

import time
from pathlib import Path
from typing import Any

import pytest

from stream.clock import MINUTE_MS
from tests.support.processes import RunningSystem

FLOOD, PAUSED_CLICKS = 600, 5


def make_click(number: int, user: str, item: str, ts: int) -> dict[str, Any]:
    return {"event_id": f"{user}-{number}", "type": "click", "ts": ts, "user_id": user, "item_id": item}


def count_clicks(running: RunningSystem, item: str) -> int:
    running.settle()
    clicks: int = running.http.get(f"/v1/items/{item}").json()["counts"]["click"]
    return clicks


def read_alarms(running: RunningSystem) -> list[dict[str, Any]]:
    alarms: list[dict[str, Any]] = running.http.get("/v1/alarms", headers={"Authorization": "Bearer key"}).json()
    return alarms


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_flood_is_quarantined_and_resolved_by_hand(tmp_path: Path) -> None:
    now = int(time.time() * 1000) - MINUTE_MS
    with RunningSystem(tmp_path / "data") as running:
        running.http.post("/v1/items", json=[{"item_id": item} for item in "abc"])
        genuine = [make_click(n, f"u{n}", "b", now + n) for n in range(FLOOD)]
        running.http.post("/v1/events", json=genuine)
        assert count_clicks(running, "b") == FLOOD
        assert read_alarms(running) == []

        running.http.post("/v1/events", json=[make_click(n, "mallory", "a", now + 10 * n) for n in range(FLOOD)])
        passed = count_clicks(running, "a")
        quarantined = running.json("quarantine", "list")
        [alarm] = read_alarms(running)

        assert 0 < passed < FLOOD
        assert len(quarantined) == FLOOD - passed
        assert {(action["user_id"], action["item_id"], action["detector"]) for action in quarantined} == {
            ("mallory", "a", "flood")
        }
        assert quarantined[0].keys() >= {"event_id", "user_id", "item_id", "detector", "reason", "offset"}
        assert alarm.keys() == {"id", "ts", "depth", "kind", "detector", "evidence", "remedy"}
        assert (alarm["depth"], alarm["kind"]) == ("actor", "poison")

        first, second, *_ = (action["event_id"] for action in quarantined)
        assert running.command("quarantine", "release", first).returncode == 0
        assert running.command("quarantine", "drop", second).returncode == 0
        assert running.command("quarantine", "release", second).returncode == 1
        assert count_clicks(running, "a") == passed + 1
        assert len(running.json("quarantine", "list")) == len(quarantined) - 2

        def n_streamed() -> float:
            return running.metric("stream", "headrace_events_total", type="click")

        before = n_streamed()
        assert running.command("models", "pause").returncode == 0
        running.wait_until(lambda: running.metric("learn", "headrace_learn_paused") == 1)
        running.http.post("/v1/events", json=[make_click(n, f"v{n}", "c", now) for n in range(PAUSED_CLICKS)])
        running.wait_until(lambda: n_streamed() == before + PAUSED_CLICKS)
        assert running.http.get("/v1/items/c").json()["counts"]["click"] == 0
        assert running.lag()["events"] >= PAUSED_CLICKS
        assert running.http.post("/v1/recommendations", json={"user_id": "u1", "k": 2}).status_code == 200
        assert running.command("models", "resume").returncode == 0
        assert count_clicks(running, "c") == PAUSED_CLICKS

        assert running.json("replay", "run")["equal"]
