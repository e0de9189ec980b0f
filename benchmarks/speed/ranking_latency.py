"""Latency of one recommendation in process, by stage, with a model of synthetic events."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, latency_quantiles, run_benchmark, temporary_folder
from online_models.worker import LearnWorker
from serving import metrics
from serving.exploration.explorer import Explorer
from serving.ingest.pending_writes import PendingWrites
from serving.pipeline.recommender import Recommender, RecommenderSettings
from serving.pipeline.schemas import RecommendationRequest
from serving.replica.replica import Replica
from stream.clock import DAY_MS, HOUR_MS, ManualClock
from stream.config import DataSettings, GuardSettings, ServeSettings, Settings
from stream.stores import UserStore
from stream.testing import MemoryLog, MemoryStore
from stream.topics import create_topics
from stream.worker.worker import StreamWorker

CATALOG_SIZES = (10_000, 100_000, 1_000_000)
USERS = 20_000
SLATE_SIZE = 20
N_REQUESTS = 2_000  # per run
CANDIDATES = 750  # requested: retrievers overlap, so that about 500 candidates are ranked
REQUESTS_PER_UPDATE = 20  # at 1,000 requests/s, one update every 20 ms
EVENTS_PER_UPDATE = 50
_STAGES = ("user", "rank", "explore")


@dataclass(frozen=True, slots=True)
class ServingLoop:
    """The live stream, learn and serve code in one process."""

    log: MemoryLog
    store: UserStore
    stream_worker: StreamWorker
    learn_worker: LearnWorker
    replica: Replica
    recommender: Recommender

    def catch_up(self) -> None:
        """Stream and train on all records of the log."""
        while self.stream_worker.step(timeout=0):
            pass
        while self.learn_worker.step(timeout=0):
            pass


def measure(size: RunSize) -> Iterator[Numbers]:
    with temporary_folder() as folder:
        sizes = CATALOG_SIZES[:1] if size.quick else CATALOG_SIZES
        loops = {items: build_loop(items, size.choose(300_000, 5_000), folder / str(items)) for items in sizes}
        for run in range(size.runs):
            numbers: Numbers = {}
            for items, loop in loops.items():
                n_requests = size.choose(N_REQUESTS, 200)
                numbers |= measure_requests(f"recommend: {items:,} items", loop, items, n_requests, seed=run)
            yield numbers


def build_loop(items: int, events: int, folder: Path) -> ServingLoop:
    """Build a loop with a catalog, and train it on organic events and slates."""
    clock = ManualClock(traffic.START + DAY_MS)
    # Synthetic traffic is unlike that of a shop: the guard only raises alarms.
    settings = Settings(
        data=DataSettings(folder=folder),
        guard=GuardSettings(auto_remediate=False),
        serve=ServeSettings(candidates=CANDIDATES),
    )
    log, store = MemoryLog(clock=clock), MemoryStore()
    create_topics(log)
    log.append("items", 0, list(traffic.generate_catalog(items)))
    stream_worker, learn_worker = StreamWorker(log, store, settings), LearnWorker(log, settings, clock)
    stream_worker.step(timeout=0)
    for records in (
        traffic.generate_organic(events * 3 // 4, USERS, items),
        traffic.generate_slates(events // 4, USERS, items, seed=1),
    ):
        log.append("events", 0, records)
        while stream_worker.step(timeout=0):
            while learn_worker.step(timeout=0):
                pass
    learn_worker.save()
    learn_worker.wait_for_checkpoint()
    log.trim("model-updates", 0, log.end_offset("model-updates", 0))
    replica = Replica(log, settings)
    serve, rng = settings.serve, np.random.default_rng(0)
    ranking = RecommenderSettings(serve.candidates)
    recommender = Recommender(replica, store, PendingWrites(1), ranking, Explorer(serve), rng)
    return ServingLoop(log, store, stream_worker, learn_worker, replica, recommender)


def measure_requests(name: str, loop: ServingLoop, items: int, n_requests: int, seed: int) -> Numbers:
    """Measure requests of users with a history, with model updates in between."""
    rng = np.random.default_rng(seed)
    new_events = traffic.generate_organic(
        n_requests // REQUESTS_PER_UPDATE * EVENTS_PER_UPDATE, USERS, items, seed=100 + seed
    )
    start_seconds, start_candidates = _read_stage_seconds(), metrics.candidates_ranked._value.get()
    wall_ms, cpu_ms, poll_ms = [], [], []
    for i, user in enumerate(rng.integers(0, USERS, n_requests).tolist()):
        if i % REQUESTS_PER_UPDATE == 0:
            first = i // REQUESTS_PER_UPDATE * EVENTS_PER_UPDATE
            loop.log.append("events", 0, new_events[first : first + EVENTS_PER_UPDATE])
            loop.catch_up()
            begin = time.perf_counter()
            while loop.replica.poll():
                pass
            poll_ms.append(1e3 * (time.perf_counter() - begin))
        request = RecommendationRequest(user_id=f"user-{user}", k=SLATE_SIZE)
        begin, cpu = time.perf_counter(), time.thread_time()
        slate = loop.recommender.recommend(request, f"r{i}", traffic.START + HOUR_MS)
        cpu_ms.append(1e3 * (time.thread_time() - cpu))
        wall_ms.append(1e3 * (time.perf_counter() - begin))
        assert len(slate.response.items) == SLATE_SIZE
    end_seconds = _read_stage_seconds()
    stage_ms = {stage: 1e3 * (end_seconds[stage] - start_seconds[stage]) / n_requests for stage in _STAGES}
    numbers = {
        f"{name}, candidates ranked, mean": (metrics.candidates_ranked._value.get() - start_candidates) / n_requests
    }
    numbers |= latency_quantiles(name, wall_ms) | latency_quantiles(f"{name}, CPU", cpu_ms)
    numbers |= {f"{name}, stage {stage}, mean ms": mean for stage, mean in stage_ms.items()}
    return numbers | latency_quantiles(f"{name}, apply update", poll_ms)


def _read_stage_seconds() -> dict[str, float]:
    return {stage: metrics.stage_duration_seconds.labels(stage)._sum.get() for stage in _STAGES}


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
