"""kill -9 anywhere: every event counts exactly once, and a replay gives the same bits."""

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.processes import VERBS, RunningSystem

KILLS = 20
ITEMS = [f"i{n}" for n in range(60)]
TYPES = ("view", "click", "like", "cart", "purchase", "dislike")


class Producer(threading.Thread):
    """A producer that resends each batch until it is acknowledged."""

    def __init__(self, running: RunningSystem, seed: int) -> None:
        super().__init__(daemon=True)
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{running.port}", timeout=5)
        self._random = random.Random(seed)
        self.stop = threading.Event()
        self.sent: list[dict[str, Any]] = []
        self.n_failures = 0  # requests without acknowledgement
        self._n_invalid = 0

    def run(self) -> None:
        with self._http:
            self._produce()

    def _produce(self) -> None:
        while not self.stop.is_set():
            batch = [self._event() for _ in range(self._random.randint(1, 60))]
            self._deliver(batch)
            self.sent += batch
            self._deliver_invalid()
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

    def _deliver_invalid(self) -> None:
        self._deliver(
            [{"event_id": f"bad{self._n_invalid}", "type": "click", "ts": 1, "user_id": "u1", "item_id": "i1"}]
        )
        self._n_invalid += 1

    def _deliver(self, batch: list[dict[str, Any]]) -> None:
        while True:
            try:
                if self._http.post("/v1/events", json=batch).status_code == 202:
                    return
            except httpx.TransportError:
                time.sleep(0.05)
            self.n_failures += 1


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_random_kills_change_nothing(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    settings = {
        "HEADRACE_LEARN__CHECKPOINT_EVERY": "1",
        "HEADRACE_STREAM__ATTRIBUTION_WINDOW": "2",
        "HEADRACE_STREAM__ALLOWED_LATENESS": "1",
    }
    with RunningSystem(tmp_path / "data", **settings) as running:
        running.http.post("/v1/items", json=[{"item_id": item, "categories": [f"c{len(item)}"]} for item in ITEMS])
        producer = Producer(running, seed)
        producer.start()
        shopper = threading.Thread(target=send_feedback, args=(running.port, producer.stop), daemon=True)
        shopper.start()
        n_kills = 0
        while n_kills < KILLS:
            time.sleep(rng.random())
            n_kills += running.kill(rng.choice(VERBS))
            if rng.random() < 0.7:  # otherwise the next process dies while this one starts
                running.wait_for_progress()
        producer.stop.set()
        producer.join()
        shopper.join()
        running.wait_until_ready()
        running.settle()

        assert_counted_once(running, producer.sent)
        replayed = running.json("replay", "run")

    assert replayed["equal"], replayed
    assert replayed["steps"] > KILLS / 2
    assert replayed["users"] >= 41


def send_feedback(port: int, stop: threading.Event) -> None:
    """Request slates and click on them, so that impressions and joins must survive as well."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=5) as http:
        n = 0
        while not stop.is_set():
            n += 1
            try:
                response = http.post("/v1/recommendations", json={"user_id": f"s{n % 7}", "k": 5}).json()
                clicks = [
                    {"event_id": f"{response['impression_id']}-c", "type": "click", "ts": int(time.time() * 1000),
                     "user_id": f"s{n % 7}", "item_id": item["item_id"], "impression_id": response["impression_id"]}
                    for item in response["items"][:1]
                ]  # fmt: skip
                http.post("/v1/events", json=clicks)
            except (httpx.TransportError, KeyError):
                time.sleep(0.05)
            time.sleep(0.02)


def assert_counted_once(running: RunningSystem, sent: list[dict[str, Any]]) -> None:
    """Compare the counts of all users and items with the events that were sent."""
    by_user = Counter((event["user_id"], event["type"]) for event in sent)
    user_counts: Counter[tuple[str, str]] = Counter()
    for user in sorted({event["user_id"] for event in sent}):
        record = running.http.get(f"/v1/users/{user}").json()
        user_counts.update({(user, kind): n for kind, n in record["counts"].items() if n})

    assert user_counts == by_user

    by_item = Counter((event["item_id"], event["type"]) for event in sent if event["type"] != "click")
    item_counts: Counter[tuple[str, str]] = Counter()
    for item in ITEMS:
        counts = running.http.get(f"/v1/items/{item}").json()["counts"]
        item_counts.update({(item, kind): n for kind, n in counts.items() if n and kind not in ("impression", "click")})

    assert item_counts == by_item
