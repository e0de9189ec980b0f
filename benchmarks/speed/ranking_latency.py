"""How long one answer takes in process, stage by stage, from a state that learnt generated events."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, Size, quantiles, run_alone, temporary_folder
from online_models.worker import LearnWorker
from serving import metrics
from serving.exploration.explorer import Exploration
from serving.ingest.pending_writes import Acknowledged
from serving.pipeline.recommender import Recommender
from serving.pipeline.schemas import Question
from serving.replica.replica import Replica
from stream.clock import ManualClock
from stream.config import Data, Guard, Serve, Settings
from stream.stores import UserStore
from stream.testing import MemoryLog, MemoryStore
from stream.worker.worker import StreamWorker

CATALOGUES = (10_000, 100_000, 1_000_000)
USERS = 20_000
SHOWN = 20
ASKED = 2_000  # questions of one run
CANDIDATES = 750  # asked for: channels find some items together, so that about 500 are ranked
PER_UPDATE = 20  # questions between two updates of the state: at a thousand a second, one each 20 ms
EVENTS_PER_UPDATE = 50
_STAGES = ("user", "rank", "explore")
_TOPICS = (
    "events", "examples", "items", "users", "model-updates", "dead-letter", "quarantine", "control", "alarms",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Loop:
    """The three processes as objects of one process."""

    log: MemoryLog
    store: UserStore
    streaming: StreamWorker
    learning: LearnWorker
    replica: Replica
    recommender: Recommender

    def follow(self) -> None:
        """Bring all that the log holds into the answers' state."""
        while self.streaming.step(timeout=0):
            pass
        while self.learning.step(timeout=0):
            pass


def measure(size: Size) -> Iterator[Numbers]:
    with temporary_folder() as folder:
        sizes = CATALOGUES[:1] if size.quick else CATALOGUES
        loops = {items: learnt(items, size.of(300_000, 5_000), folder / str(items)) for items in sizes}
        for run in range(size.runs):
            numbers: Numbers = {}
            for items, loop in loops.items():
                numbers |= asked(f"answer, {items:,} items", loop, items, size.of(ASKED, 200), seed=run)
            yield numbers


def learnt(items: int, events: int, folder: Path) -> Loop:
    """A catalogue, people with a past, and what there is to learn from it."""
    clock = ManualClock(traffic.START + 86_400_000)
    # Made-up traffic is no shop's: the guard looks on.
    settings = Settings(data=Data(folder=folder), guard=Guard(remedy=False), serve=Serve(candidates=CANDIDATES))
    log, store = MemoryLog(clock=clock), MemoryStore()
    for topic in _TOPICS:
        log.create(topic, 1)
    log.append("items", 0, list(traffic.catalogue(items)))
    streaming, learning = StreamWorker(log, store, settings), LearnWorker(log, settings, clock)
    streaming.step(timeout=0)
    for records in (traffic.organic(events * 3 // 4, USERS, items), traffic.slates(events // 4, USERS, items, seed=1)):
        log.append("events", 0, records)
        while streaming.step(timeout=0):
            while learning.step(timeout=0):
                pass
    learning.save()
    learning._keeper.wait()
    log.trim("model-updates", 0, log.end("model-updates", 0))
    replica = Replica(log, settings)
    serve, rng = settings.serve, np.random.default_rng(0)
    recommender = Recommender(replica, store, Acknowledged(1), serve.candidates, Exploration(serve), rng)
    return Loop(log, store, streaming, learning, replica, recommender)


def asked(name: str, loop: Loop, items: int, questions: int, seed: int) -> Numbers:
    """Questions of people who have a past, while updates keep coming in between."""
    rng = np.random.default_rng(seed)
    fresh = traffic.organic(questions // PER_UPDATE * EVENTS_PER_UPDATE, USERS, items, seed=100 + seed)
    before, ranked = _seconds(), metrics.candidates._value.get()
    answering, working, polling = [], [], []
    for i, user in enumerate(rng.integers(0, USERS, questions).tolist()):
        if i % PER_UPDATE == 0:
            first = i // PER_UPDATE * EVENTS_PER_UPDATE
            loop.log.append("events", 0, fresh[first : first + EVENTS_PER_UPDATE])
            loop.follow()
            begin = time.perf_counter()
            while loop.replica.poll():
                pass
            polling.append(1e3 * (time.perf_counter() - begin))
        question = Question(user_id=f"user-{user}", k=SHOWN)
        begin, cpu = time.perf_counter(), time.thread_time()
        slate = loop.recommender.answer(question, f"r{i}", traffic.START + 3_600_000)
        working.append(1e3 * (time.thread_time() - cpu))
        answering.append(1e3 * (time.perf_counter() - begin))
        assert len(slate.answer.items) == SHOWN
    after = _seconds()
    took = {stage: 1e3 * (after[stage] - before[stage]) / questions for stage in _STAGES}
    numbers = {f"{name}: candidates ranked, mean": (metrics.candidates._value.get() - ranked) / questions}
    numbers |= quantiles(name, answering) | quantiles(f"{name}: CPU", working)
    numbers |= {f"{name}, of which {stage}, mean ms": mean for stage, mean in took.items()}
    return numbers | quantiles(f"{name}: update applied", polling)


def _seconds() -> dict[str, float]:
    return {stage: metrics.stage_seconds.labels(stage)._sum.get() for stage in _STAGES}


if __name__ == "__main__":
    run_alone(__doc__, measure)
