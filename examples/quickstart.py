"""The whole loop in one process: events → stream → learn → recommendations.

Run `python examples/quickstart.py`. It uses the classes of `headrace stream`, `learn` and `serve` over the embedded log
and store in a temporary folder; `headrace up` runs the same in three processes, with HTTP in front.
"""

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from online_models.worker import LearnWorker
from serving.pipeline.schemas import RecommendationRequest
from serving.service import Service
from stream.clock import SystemClock
from stream.config import DataSettings, ServeSettings, Settings
from stream.drivers import open_store
from stream.topics import EVENTS, ITEMS, open_topics
from stream.worker.worker import StreamWorker

SHELVES = {
    "coffee": ["espresso", "filter", "grinder", "milk jug", "kettle"],
    "garden": ["spade", "seeds", "hose", "gloves", "rake"],
}
N_USERS, CLICKS_PER_USER, BATCH = 400, 6, 200


class Shop:
    """Stream, learn and serve, stepped by hand."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(data=DataSettings(folder=folder), serve=ServeSettings(seed=1))
        self.clock = SystemClock()
        self.log, self.store = open_topics(settings, self.clock), open_store(settings.store_url)
        self.stream = StreamWorker(self.log, self.store, settings)
        self.learn = LearnWorker(self.log, settings, self.clock)
        self.service = Service(self.log, self.store, settings, self.clock)

    def send(self, topic: str, key: str, records: Iterable[dict[str, Any]]) -> None:
        """Append records to a topic, and run all workers until nothing is left to do."""
        self.log.append(topic, 0, [(record[key].encode(), json.dumps(record).encode()) for record in records])
        while self.stream.step(0) + self.learn.step(0) + self.service.replica.poll():
            pass

    def show_recommendations(self, user: str) -> None:
        request = RecommendationRequest(user_id=user, k=3, log=False)
        response = self.service.recommender.recommend(request, "quickstart", self.clock.now_ms()).response
        print(f"{user}, by model {response.model_version}:")
        for item in response.items:
            print(f"  {item.item_id:9} score {item.score:6.3f}  propensity {item.propensity:.3f}  from {item.source}")

    def close(self) -> None:
        self.service.writer.close()
        self.learn.close()
        self.stream.close()
        self.store.close()
        self.log.close()


def create_clicks(now: int) -> list[dict[str, Any]]:
    """Clicks of users who like one shelf each."""
    rng, clicks = np.random.default_rng(0), []
    for number in range(N_USERS):
        shelf = SHELVES["coffee" if number % 2 else "garden"]
        for click in range(CLICKS_PER_USER):
            ts, item = now - 60_000 * (N_USERS - number) + click, str(rng.choice(shelf))
            clicks.append(create_click(f"e{number}-{click}", ts, f"user{number}", item))
    return clicks


def create_click(event_id: str, ts: int, user: str, item: str) -> dict[str, Any]:
    return {"event_id": event_id, "type": "click", "ts": ts, "user_id": user, "item_id": item}


with tempfile.TemporaryDirectory() as folder:
    shop = Shop(Path(folder))
    shop.send(ITEMS, "item_id", [{"item_id": item, "categories": [name]} for name in SHELVES for item in SHELVES[name]])
    clicks = create_clicks(shop.clock.now_ms())
    for start in range(0, len(clicks), BATCH):
        shop.send(EVENTS, "user_id", clicks[start : start + BATCH])
    shop.show_recommendations("newcomer")
    shop.send(EVENTS, "user_id", [create_click("n1", shop.clock.now_ms(), "newcomer", "espresso")])
    print("newcomer clicks espresso")
    shop.show_recommendations("newcomer")
    shop.close()
