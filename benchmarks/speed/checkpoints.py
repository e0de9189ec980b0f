"""Checkpoints of 1 GB of tables: write, load and training pause; recovery after kill -9."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, RunSize, run_benchmark, temporary_folder
from benchmarks.speed.http_load import SETTINGS, put_catalog, send_events
from online_models.model import RecommenderModel
from online_models.state.item_table import NO_TIME
from online_models.versions import checkpoints
from online_models.versions.checkpoint_writer import CheckpointWriter
from online_models.versions.checkpoints import Manifest
from tests.support.processes import RunningSystem

STATE_BYTES = 1_000_000_000
_ROWS_PER_STEP = 2_000  # changed by one training step


@dataclass(frozen=True, slots=True)
class CheckpointPause:
    """Effect on the learner of a checkpoint that is written in the background."""

    fork_seconds: float  # training is paused
    longest_step: float  # seconds, including copy-on-write
    median_step: float  # seconds, without a checkpoint


def measure(size: RunSize) -> Iterator[Numbers]:
    model = make_model(size.choose(STATE_BYTES, 50_000_000))
    for run in range(1, size.runs + 1):
        with temporary_folder() as folder:
            yield measure_checkpoint(folder, model, run) | measure_restarts(folder / "system", size)


def make_model(n_bytes: int) -> RecommenderModel:
    """Make a model with about `n_bytes` of state: catalog items with vectors, as after training."""
    rng, model, n_items = np.random.default_rng(0), RecommenderModel(), 0
    while sum(array.nbytes for array in model.state().values()) < n_bytes:
        n = 20_000
        keys = np.arange(n_items + 1, n_items + n + 1, dtype=np.uint64)
        model.set_item_attributes(
            keys, np.zeros((n, 4), np.uint64), np.full(n, NO_TIME), np.full(n, np.nan, np.float32)
        )
        n_items += n
    model.two_tower.item_vectors["square"][:n_items] = 1 + rng.random(n_items)
    model.changes()
    return model


def measure_checkpoint(folder: Path, model: RecommenderModel, step: int) -> Numbers:
    state = model.state()
    gigabytes = sum(array.nbytes for array in state.values()) / 1e9
    begin = time.perf_counter()
    checkpoints.save(folder, make_manifest(step), state)
    write_seconds = time.perf_counter() - begin
    pause = measure_pause(folder, model, step + 1)
    begin = time.perf_counter()
    loaded_manifest, loaded_state = checkpoints.load(folder, make_manifest(step).version)
    load_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    RecommenderModel().restore(loaded_state)
    restore_seconds = time.perf_counter() - begin
    assert loaded_manifest.step == step
    return {
        "checkpoint: state, GB": gigabytes,
        "checkpoint: write and fsync, s": write_seconds,
        "checkpoint: learner pause, ms": 1e3 * pause.fork_seconds,
        "checkpoint: longest step while writing, ms": 1e3 * pause.longest_step,
        "checkpoint: median step, ms": 1e3 * pause.median_step,
        "checkpoint: load and verify, s": load_seconds,
        "checkpoint: restore tables, s": restore_seconds,
    }


def measure_pause(folder: Path, model: RecommenderModel, step: int) -> CheckpointPause:
    """Run steps that change rows all over the state, with and without a background checkpoint."""
    rng, writer = np.random.default_rng(step), CheckpointWriter(folder, n_kept=2)
    median = sorted(_run_step(model, rng) for _ in range(50))[25]
    begin = time.perf_counter()
    writer.save(make_manifest(step), model.state())
    fork = time.perf_counter() - begin
    longest = 0.0
    while writer._child_pid is not None:
        longest = max(longest, _run_step(model, rng))
        writer.poll()
    assert make_manifest(step).version in checkpoints.list_version_names(folder), "the checkpoint was not written"
    return CheckpointPause(fork, longest, median)


def _run_step(model: RecommenderModel, rng: np.random.Generator) -> float:
    rows = rng.integers(0, len(model.items), _ROWS_PER_STEP)
    begin = time.perf_counter()
    model.two_tower.item_vectors["vector"][rows] += np.float32(1e-6)
    model.items.counters["total_counts"][rows, 2] += 1
    return time.perf_counter() - begin


def make_manifest(step: int) -> Manifest:
    version = checkpoints.version_name(1, step)
    return Manifest(
        version=version, epoch=1, step=step, parent=None, created=traffic.START, example_offsets={}, offsets={}
    )


def measure_restarts(folder: Path, size: RunSize) -> Numbers:
    """Kill each process; measure the seconds until it answers or new events are in the model."""
    numbers: Numbers = {}
    with RunningSystem(folder, **SETTINGS) as running:
        put_catalog(running)
        send_events(running, size.choose(50_000, 1_000), seed=1)
        running.settle(300)
        for seed, verb in enumerate(("serve", "learn", "stream"), 2):
            running.kill(verb)
            begin = time.perf_counter()
            running.wait_until_ready()
            if verb == "serve":
                numbers["kill -9 serve: seconds until it answers"] = time.perf_counter() - begin
            else:
                send_events(running, 100, seed)
                running.settle(300)
                numbers[f"kill -9 {verb}: seconds until new events are in the model"] = time.perf_counter() - begin
    return numbers


if __name__ == "__main__":
    run_benchmark(__doc__, measure)
