"""A click log without a catalog gives answers, which survive kill -9 and replay."""

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.support.processes import VERBS, RunningSystem

N_ITEMS, N_USERS, N_CLICKS = 60, 300, 3_000


def write_click_log(path: Path) -> list[str]:
    """Write clicks whose items differ in popularity; return the items, most clicked first."""
    rng, start = random.Random(5), int(time.time() * 1000) - 6 * 3_600_000
    weights = [1 / (1 + n) for n in range(N_ITEMS)]
    items = rng.choices([f"item/{n} é" for n in range(N_ITEMS)], weights, k=N_CLICKS)
    rows = [
        {"event_id": f"e{n}", "type": "click", "ts": start + n * 5_000, "user_id": f"u{n % N_USERS}", "item_id": item}
        for n, item in enumerate(items)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [item for item, _ in Counter(items).most_common()]


def recommend(system: RunningSystem, user: str, **fields: Any) -> list[str]:
    body = {"user_id": user, "k": 10, "explore": False, "log": False} | fields
    return [item["item_id"] for item in system.http.post("/v1/recommendations", json=body).json()["items"]]


def test_click_log_alone_gives_answers(tmp_path: Path) -> None:
    by_clicks = write_click_log(tmp_path / "clicks.jsonl")

    with RunningSystem(tmp_path / "data") as system:
        assert recommend(system, "stranger") == []
        assert system.command("produce", str(tmp_path / "clicks.jsonl")).returncode == 0
        system.settle()
        stranger, known = recommend(system, "stranger"), recommend(system, "u1")

        assert len(set(stranger) & set(by_clicks[:20])) >= 6
        assert known
        for verb in VERBS:
            system.kill(verb)
            system.wait_until_ready()
        system.http.post(
            "/v1/events",
            json=[
                {"event_id": "late", "type": "click", "ts": int(time.time() * 1000), "user_id": "u1", "item_id": "new"}
            ],
        )
        system.settle()

        assert "new" in recommend(system, "stranger", k=100)
        assert "new" not in recommend(system, "u1", k=100)
        assert system.json("replay", "run")["equal"]
