"""Latency that filters add to one recommendation, by the size of the catalog."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, latency_quantiles, run_benchmark, temporary_folder
from serving.exploration.explorer import Explorer
from serving.ingest.pending_writes import PendingWrites
from serving.pipeline.recommender import Recommender, RecommenderSettings
from serving.pipeline.schemas import RecommendationRequest
from serving.replica.replica import Replica
from stream.config import DataSettings, ServeSettings, Settings
from stream.testing import MemoryLog, MemoryStore
from stream.topics import ITEMS, create_topics

CATALOG_SIZES = (10_000, 100_000, 1_000_000)
FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "one category of 200": {"categories": ["c7"]},
    "one creator of 1,000": {"creators": ["seller7"]},
    "price": {"min_price": 10, "max_price": 11},
    "attribute": {"attributes": {"color": "color3"}},
    "category and price": {"categories": ["c7"], "max_price": 50},
    "either of two categories": {"or": [{"categories": ["c7"]}, {"categories": ["c8"]}]},
    "all but a category": {"not": {"categories": ["c7"]}},
}


def measure(size: RunSize) -> Iterator[Numbers]:
    with temporary_folder() as folder:
        settings = Settings(data=DataSettings(folder=folder))
        sizes = CATALOG_SIZES[:1] if size.quick else CATALOG_SIZES
        recommenders = {items: build_recommender(items, settings) for items in sizes}
        for _ in range(size.runs):
            numbers: Numbers = {}
            for items, (recommender, replica) in recommenders.items():
                for name, filters in FILTERS.items():
                    latencies_ms = measure_requests(recommender, replica, filters, size.choose(200, 5))
                    numbers |= latency_quantiles(f"filter {name}: {items:,} items", latencies_ms)
                numbers[f"filter columns: {items:,} items, MB"] = replica.columns.nbytes / 1e6
            yield numbers


def build_recommender(items: int, settings: Settings) -> tuple[Recommender, Replica]:
    """Build a recommender over a catalog that no event names."""
    log = MemoryLog()
    create_topics(log)
    log.append(ITEMS, 0, list(generate_catalog(items)))
    replica = Replica(log, settings)
    ranking, explorer = RecommenderSettings(), Explorer(ServeSettings())
    rng = np.random.default_rng(0)
    return Recommender(replica, MemoryStore(), PendingWrites(1), ranking, explorer, rng), replica


def generate_catalog(items: int) -> Iterator[tuple[bytes, bytes]]:
    rng = np.random.default_rng(0)
    for item, price in enumerate(rng.uniform(1, 100, items).round(2).tolist()):
        fields = {
            "item_id": f"item-{item}", "categories": [f"c{item % 200}", f"d{item % 31}"], "price": price,
            "creator": f"seller{item % 1_000}", "color": f"color{item % 12}", "created_ts": traffic.START,
        }  # fmt: skip
        yield f"item-{item}".encode(), msgspec.json.encode(fields)


def measure_requests(
    recommender: Recommender, replica: Replica, filters: dict[str, Any], n_requests: int
) -> list[float]:
    """Latencies of requests with one filter, ms.

    The catalog changes before each, so that no mask is cached.
    """
    request = msgspec.convert(
        {"user_id": "u1", "k": 20, "explore": False, "log": False} | ({"filters": filters} if filters else {}),
        RecommendationRequest,
    )
    recommender.recommend(request, "warm-up", traffic.START)
    latencies_ms = []
    for i in range(n_requests):
        replica.columns.clear(np.zeros(0, np.int32))
        begin = time.perf_counter()
        recommender.recommend(request, f"r{i}", traffic.START)
        latencies_ms.append(1e3 * (time.perf_counter() - begin))
    return latencies_ms


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
