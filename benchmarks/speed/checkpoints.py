"""A gigabyte of tables: how long it takes to write and to load, how long learning stands still, and a kill -9."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.harness import traffic
from benchmarks.harness.runs import Numbers, Size, run_alone, temporary_folder
from benchmarks.speed.http_load import SETTINGS, events, furnish
from online_models.model import Stack
from online_models.state.item_table import NO_TIME
from online_models.versions import checkpoints
from online_models.versions.checkpoint_writer import Keeper
from online_models.versions.checkpoints import Manifest
from tests.support.processes import Running

STATE = 1_000_000_000  # bytes
_TOUCHED = 2_000  # rows that one step of the learner changes


@dataclass(frozen=True, slots=True)
class Pause:
    """What the learner notices of a checkpoint that is written beside it."""

    fork: float  # seconds in which it does nothing else
    longest_step: float  # seconds, while pages are copied
    usual_step: float  # seconds, the same without a checkpoint


def measure(size: Size) -> Iterator[Numbers]:
    stack = filled(size.of(STATE, 50_000_000))
    for run in range(1, size.runs + 1):
        with temporary_folder() as folder:
            yield written(folder, stack, run) | restarted(folder / "system", size)


def filled(bytes_: int) -> Stack:
    """A stack whose state has about so many bytes: items that were described and have vectors, as after learning."""
    rng, stack, made = np.random.default_rng(0), Stack(), 0
    while sum(array.nbytes for array in stack.state().values()) < bytes_:
        n = 20_000
        keys = np.arange(made + 1, made + n + 1, dtype=np.uint64)
        stack.describe(keys, np.zeros((n, 4), np.uint64), np.full(n, NO_TIME), np.full(n, np.nan, np.float32))
        made += n
    stack.tower.wanted["square"][:made] = 1 + rng.random(made)
    stack.changes()
    return stack


def written(folder: Path, stack: Stack, step: int) -> Numbers:
    state = stack.state()
    gigabytes = sum(array.nbytes for array in state.values()) / 1e9
    begin = time.perf_counter()
    checkpoints.save(folder, manifest(step), state)
    wrote = time.perf_counter() - begin
    pause = paused(folder, stack, step + 1)
    begin = time.perf_counter()
    loaded, found = checkpoints.load(folder, manifest(step).version)
    read = time.perf_counter() - begin
    begin = time.perf_counter()
    Stack().restore(found)
    restored = time.perf_counter() - begin
    assert loaded.step == step
    return {
        "checkpoint: state, GB": gigabytes,
        "checkpoint: write and fsync, s": wrote,
        "checkpoint: learner stands still, ms": 1e3 * pause.fork,
        "checkpoint: longest step while writing, ms": 1e3 * pause.longest_step,
        "checkpoint: usual step, ms": 1e3 * pause.usual_step,
        "checkpoint: load and check, s": read,
        "checkpoint: into tables, s": restored,
    }


def paused(folder: Path, stack: Stack, step: int) -> Pause:
    """Steps that change rows all over the state, with and without a checkpoint being written beside them."""
    rng, keeper = np.random.default_rng(step), Keeper(folder, keep=2)
    usual = sorted(_step(stack, rng) for _ in range(50))[25]
    begin = time.perf_counter()
    keeper.save(manifest(step), stack.state())
    fork = time.perf_counter() - begin
    longest = 0.0
    while keeper._child is not None:
        longest = max(longest, _step(stack, rng))
        keeper.reap()
    assert manifest(step).version in checkpoints.versions_in(folder), "the checkpoint was not written"
    return Pause(fork, longest, usual)


def _step(stack: Stack, rng: np.random.Generator) -> float:
    rows = rng.integers(0, len(stack.items), _TOUCHED)
    begin = time.perf_counter()
    stack.tower.wanted["vector"][rows] += np.float32(1e-6)
    stack.items.counters["ever"][rows, 2] += 1
    return time.perf_counter() - begin


def manifest(step: int) -> Manifest:
    version = checkpoints.name_of(1, step)
    return Manifest(version=version, epoch=1, step=step, parent=None, created=traffic.START, examples={}, offsets={})


def restarted(folder: Path, size: Size) -> Numbers:
    """kill -9 of each process: seconds until answers come again, and until they hold what has happened since."""
    found: Numbers = {}
    with Running(folder, **SETTINGS) as running:
        furnish(running)
        events(running, size.of(50_000, 1_000), seed=1)
        running.settle(300)
        for seed, verb in enumerate(("serve", "learn", "stream"), 2):
            running.kill(verb)
            begin = time.perf_counter()
            running.wait_until_ready()
            if verb == "serve":
                found["kill -9 serve: answers again, s"] = time.perf_counter() - begin
            else:
                events(running, 100, seed)
                running.settle(300)
                found[f"kill -9 {verb}: answers hold new events again, s"] = time.perf_counter() - begin
    return found


if __name__ == "__main__":
    run_alone(__doc__, measure)
