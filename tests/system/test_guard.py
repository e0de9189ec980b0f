"""The guard in the real processes: a flood is held back, people settle it, learning is held and resumed."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.processes import Running

FLOOD, MORE = 600, 5


def click(number: int, user: str, item: str, ts: int) -> dict[str, Any]:
    return {"event_id": f"{user}-{number}", "type": "click", "ts": ts, "user_id": user, "item_id": item}


def clicks_of(running: Running, item: str) -> int:
    running.settle()
    counted: int = running.http.get(f"/v1/items/{item}").json()["counts"]["click"]
    return counted


def alarms_of(running: Running) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = running.http.get("/v1/alarms", headers={"Authorization": "Bearer key"}).json()
    return told


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_flood_is_held_back_and_settled_by_hand(tmp_path: Path) -> None:
    now = int(time.time() * 1000) - 60_000
    with Running(tmp_path / "data") as running:
        running.http.post("/v1/items", json=[{"item_id": item} for item in "abc"])
        honest = [click(n, f"u{n}", "b", now + n) for n in range(FLOOD)]
        running.http.post("/v1/events", json=honest)
        assert clicks_of(running, "b") == FLOOD
        assert alarms_of(running) == []

        running.http.post("/v1/events", json=[click(n, "mallory", "a", now + 10 * n) for n in range(FLOOD)])
        passed = clicks_of(running, "a")
        held = running.json("quarantine", "list")
        [alarm] = alarms_of(running)

        assert 0 < passed < FLOOD
        assert len(held) == FLOOD - passed
        assert {(one["user_id"], one["item_id"], one["detector"]) for one in held} == {("mallory", "a", "flood")}
        assert held[0].keys() >= {"event_id", "user_id", "item_id", "detector", "reason", "offset"}
        assert alarm.keys() == {"id", "ts", "depth", "kind", "detector", "evidence", "remedy"}
        assert (alarm["depth"], alarm["kind"]) == ("actor", "poison")

        first, second, *_ = (one["event_id"] for one in held)
        assert running.command("quarantine", "release", first).returncode == 0
        assert running.command("quarantine", "drop", second).returncode == 0
        assert running.command("quarantine", "release", second).returncode == 1
        assert clicks_of(running, "a") == passed + 1
        assert len(running.json("quarantine", "list")) == len(held) - 2

        assert running.command("models", "pause").returncode == 0
        running.http.post("/v1/events", json=[click(n, f"v{n}", "c", now) for n in range(MORE)])
        time.sleep(2)
        assert running.http.get("/v1/items/c").json()["counts"]["click"] == 0
        assert running.http.post("/v1/recommendations", json={"user_id": "u1", "k": 2}).status_code == 200
        assert running.command("models", "resume").returncode == 0
        assert clicks_of(running, "c") == MORE

        assert running.json("replay", "run")["equal"]
