"""Training speed of the live learner: `learn_rows` on example blocks, one core.

Two loads: organic clicks, and slates of 20 with one click and their served features. Each is trained in micro-batches
of 64 events (live traffic) and of 2,048 events (bulk load). CPU seconds of all threads are counted.
"""

# ruff: noqa: E402 - the number of threads must be set before numpy is imported
import os

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

import cProfile
import pstats
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark
from online_models.model import RecommenderModel
from online_models.training.progress import TrainingBatch
from online_models.training.step import learn_rows
from stream.clock import DAY_MS, ManualClock
from stream.config import EventsSettings, Settings, StreamSettings
from stream.ids import hash_ids
from stream.logs import Record
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.example_blocks import decode_examples
from stream.testing import MemoryLog, MemoryStore
from stream.topics import create_topics
from stream.worker.worker import StreamWorker

USERS, ITEMS, CATEGORIES = 20_000, 20_000, 200
SLATE_SIZE = 20
BATCH_SIZES = (64, 2_048)  # events per micro-batch
_APPEND_SIZE = 5_000  # records
_READ_LIMIT = 1 << 40  # records: no limit
_WARMUP_SHARE, _PROFILE_SHARE = 0.2, 0.2  # of the micro-batches; the rest is measured
_MIN_PERCENT = 1.0  # smaller parts are not listed


@dataclass(frozen=True, slots=True)
class Load:
    """Events of one kind, and the kind of example row that counts as one unit of work."""

    name: str
    unit: str
    kind: Kind
    records: Sequence[Record]


def measure(size: RunSize) -> Iterator[Numbers]:
    n_features = len(RecommenderModel().feature_names)
    clicks = traffic.generate_organic(size.choose(200_000, 20_000), USERS, ITEMS, types=("click",))
    slates = traffic.generate_slates(
        size.choose(40_000, 8_000), USERS, ITEMS, slate_size=SLATE_SIZE, click_every=1, n_features=n_features
    )
    loads = (
        Load("organic clicks", "clicks/s", Kind.action, clicks),
        Load("slates of 20", "slates/s", Kind.shown, slates),
    )
    batches = {(load.name, n): make_batches(load.records, n) for load in loads for n in BATCH_SIZES}
    for _ in range(size.runs):
        numbers: Numbers = {}
        for load in loads:
            for n in BATCH_SIZES:
                numbers |= measure_load(load, n, batches[load.name, n])
        yield numbers


def make_batches(records: Sequence[Record], batch_size: int) -> list[ExampleBatch]:
    """Run the live stream worker on the events; return the examples of each micro-batch."""
    log = MemoryLog(clock=ManualClock(traffic.START + DAY_MS))
    create_topics(log)
    for first in range(0, len(records), _APPEND_SIZE):
        log.append("events", 0, records[first : first + _APPEND_SIZE])
    # A short window closes the impressions within the run, so that their negatives are trained as well.
    settings = StreamSettings(batch=batch_size, attribution_window=1.0, allowed_lateness=0.1)
    worker = StreamWorker(log, MemoryStore(), Settings(events=EventsSettings(max_age=0), stream=settings))
    worker.step(timeout=0)  # acquires its partition
    batches, offset = [], 0
    while worker.step(timeout=0):
        blocks = [block for block in log.read("examples", 0, offset, _READ_LIMIT).values if block]
        offset = log.end_offset("examples", 0)
        if parts := [batch for block in blocks if len(batch := decode_examples(block)[1])]:
            batches.append(concat(parts))
    worker.close()
    return batches


def make_model() -> RecommenderModel:
    """A model with an untrained catalog: each item has a category, a creation time and a price."""
    model = RecommenderModel()
    categories = np.zeros((ITEMS, 4), np.uint64)
    categories[:, 0] = hash_ids([f"category-{row % CATEGORIES}" for row in range(ITEMS)])
    created = np.full(ITEMS, traffic.START - DAY_MS)
    price = (1 + np.arange(ITEMS) % 97).astype(np.float32)
    model.set_item_attributes(hash_ids([f"item-{row}" for row in range(ITEMS)]), categories, created, price)
    return model


def measure_load(load: Load, batch_size: int, batches: Sequence[ExampleBatch]) -> Numbers:
    """Train on warm-up batches, measure the rate on the next ones, and profile the last ones."""
    model, name = make_model(), f"learner: {load.name}, batch {batch_size:,}"
    first, last = round(_WARMUP_SHARE * len(batches)), round((1 - _PROFILE_SHARE) * len(batches))
    train(model, batches[:first])
    begin = time.process_time()
    train(model, batches[first:last])
    seconds = time.process_time() - begin
    n_units = sum(int((batch.kind == load.kind).sum()) for batch in batches[first:last])
    numbers = {f"{name}, {load.unit}": n_units / seconds}
    shares = profile_parts(model, batches[last:])
    return numbers | {f"{name}, % in {part}": share for part, share in shares.items()}


def train(model: RecommenderModel, batches: Sequence[ExampleBatch]) -> None:
    for batch in batches:
        learn_rows(model, TrainingBatch(batch, np.zeros(len(batch), np.int64)))


def profile_parts(model: RecommenderModel, batches: Sequence[ExampleBatch]) -> dict[str, float]:
    """Percent of the time of `RecommenderModel.learn` per function that it calls, largest first."""
    profile = cProfile.Profile()
    profile.runcall(train, model, batches)
    functions = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # (…, cumulative seconds, callers) by function
    learn = next(key for key in functions if key[0].endswith("online_models/model.py") and key[2] == "learn")
    seconds = {
        f"{Path(path).stem}.{function}": callers[learn][3]
        for (path, _, function), (*_, callers) in functions.items()
        if learn in callers
    }
    percents = {part: 100 * value / functions[learn][3] for part, value in seconds.items()}
    return {
        part: share for part, share in sorted(percents.items(), key=lambda entry: -entry[1]) if share >= _MIN_PERCENT
    }


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
