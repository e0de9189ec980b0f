"""kill -9 anywhere: nothing is lost, nothing counts twice, and the bits are those of a run that was never killed."""

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import VERBS, Running

KILLS = 20
ITEMS = [f"i{n}" for n in range(60)]
TYPES = ("view", "click", "like", "cart", "purchase", "dislike")


class Producer(threading.Thread):
    """Sends each batch again until it is acknowledged, as a careful producer does."""

    def __init__(self, running: Running, seed: int) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=5)
        self._random = random.Random(seed)
        self.enough = threading.Event()
        self.sent: list[dict[str, Any]] = []
        self.bad = 0

    def run(self) -> None:
        with self._http:
            self._produce()

    def _produce(self) -> None:
        while not self.enough.is_set():
            batch = [self._event() for _ in range(self._random.randint(1, 60))]
            self._deliver(batch)
            self.sent += batch
            self._deliver_bad()
            time.sleep(self._random.random() * 0.03)

    def _event(self) -> dict[str, Any]:
        n = len(self.sent) * 100 + self._random.randint(0, 10**9)
        return {
            "event_id": f"e{n}-{self._random.random()}",
            "type": self._random.choice(TYPES),
            "ts": int(time.time() * 1000) - self._random.randint(0, 3000),
            "user_id": f"u{self._random.randint(0, 40)}",
            "item_id": self._random.choice(ITEMS),
        }

    def _deliver_bad(self) -> None:
        self._deliver([{"event_id": f"bad{self.bad}", "type": "click", "ts": 1, "user_id": "u1", "item_id": "i1"}])
        self.bad += 1

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        while True:
            try:
                if self._http.post("/v1/events", json=batch).status_code == 202:
                    return
            except httpx.TransportError:
                time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_kills_at_random_points_change_nothing(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    settings = {
        "HEADRACE_LEARN__CHECKPOINT_EVERY": "1",
        "HEADRACE_STREAM__ATTRIBUTION_WINDOW": "2",
        "HEADRACE_STREAM__ALLOWED_LATENESS": "1",
    }
    with Running(tmp_path / "data", **settings) as running:
        running.http.post("/v1/items", json=[{"item_id": item, "categories": [f"c{len(item)}"]} for item in ITEMS])
        producer = Producer(running, seed)
        producer.start()
        shopper = threading.Thread(target=shop, args=(running.port, producer.enough), daemon=True)
        shopper.start()
        done = 0
        while done < KILLS:
            time.sleep(chance.random())
            done += running.kill(chance.choice(VERBS))
            if chance.random() < 0.7:  # else the next one dies while this one is coming up
                running.wait_for_progress()
        producer.enough.set()
        producer.join()
        shopper.join()
        running.wait_until_ready()
        running.settle()

        assert_counted_once(running, producer.sent)
        again = running.json("replay", "run")

    assert again["equal"], again
    assert again["steps"] > KILLS / 2
    assert again["users"] >= 41


def shop(port: int, enough: threading.Event) -> None:
    """Ask and click, so that impressions and joined clicks are among what must survive."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as http:
        n = 0
        while not enough.is_set():
            n += 1
            try:
                answer = http.post("/v1/recommendations", json={"user_id": f"s{n % 7}", "k": 5}).json()
                clicks = [
                    {"event_id": f"{answer['impression_id']}-c", "type": "click", "ts": int(time.time() * 1000),
                     "user_id": f"s{n % 7}", "item_id": item["item_id"], "impression_id": answer["impression_id"]}
                    for item in answer["items"][:1]
                ]  # fmt: skip
                http.post("/v1/events", json=clicks)
            except (httpx.TransportError, KeyError):
                time.sleep(0.05)
            time.sleep(0.02)


def assert_counted_once(running: Running, sent: list[dict[str, Any]]) -> None:
    by_user = Counter((event["user_id"], event["type"]) for event in sent)
    counted: Counter[tuple[str, str]] = Counter()
    for user in sorted({event["user_id"] for event in sent}):
        told = running.http.get(f"/v1/users/{user}").json()
        counted.update({(user, kind): n for kind, n in told["counts"].items() if n})

    assert counted == by_user

    by_item = Counter((event["item_id"], event["type"]) for event in sent if event["type"] != "click")
    learnt: Counter[tuple[str, str]] = Counter()
    for item in ITEMS:
        counts = running.http.get(f"/v1/items/{item}").json()["counts"]
        learnt.update({(item, kind): n for kind, n in counts.items() if n and kind not in ("impression", "click")})

    assert learnt == by_item
