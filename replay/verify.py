"""`headrace replay run`: the whole log through the live code again, and its bits beside those of the live run."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from online_models.control import CheckpointOrder, encode_order
from online_models.model import Stack, seeded
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.rollback import go_back
from online_models.training.step import Progress as Learnt
from online_models.training.step import blocks_of, take
from online_models.versions import checkpoints, listing
from online_models.versions.checkpoints import Manifest, State
from replay.recorded_log import RecordedLog
from stream.clock import SystemClock
from stream.config import Settings, load
from stream.drivers import open_store
from stream.logs import EventLog
from stream.stores import UserStore
from stream.testing import MemoryStore
from stream.topics import CONTROL, EVENTS, EXAMPLES, open_topics
from stream.users.profiles import Profile, decode_profile
from stream.worker.worker import StreamWorker

_PATIENCE = 10.0  # seconds to wait for a live learner's checkpoint


@dataclass(slots=True)
class Comparison:
    """What the second run came to beside the first."""

    version: str | None = None
    events: int = 0
    blocks: int = 0
    blocks_different: list[str] = field(default_factory=list)
    users: int = 0
    users_different: list[str] = field(default_factory=list)
    users_moved_on: int = 0  # changed by events that came after the run began
    steps: int = 0
    arrays: int = 0
    arrays_different: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.blocks_different or self.users_different or self.arrays_different)


def run_again(config: Path | None, as_json: bool) -> int:
    """Exit code 0 if all bits are equal, 1 if not."""
    settings = load(config)
    log = open_topics(settings, SystemClock())
    store = open_store(settings.store_url, settings.store.prefix)
    _ask_for_checkpoint(log, settings)
    comparison = Comparison()
    with Progress(console=Console(stderr=True), transient=True) as bars:
        for partition in range(log.partitions(EVENTS)):
            task = bars.add_task(f"stream, partition {partition}", total=log.end(EVENTS, partition))
            for reached in _stream_again(log, store, settings, partition, comparison):
                bars.update(task, completed=reached)
        task = bars.add_task("learn", total=None)
        for done, steps in _learn_again(log, settings, comparison):
            bars.update(task, completed=done, total=steps)
    store.close()
    log.close()
    _tell(comparison, as_json)
    return 0 if comparison.equal else 1


def _ask_for_checkpoint(log: EventLog, settings: Settings) -> None:
    """Have a live learner write its state down, unless the newest checkpoint holds all there is to hold."""
    if _covers(log, _newest(settings)):
        return
    offset = log.append(CONTROL, 0, [(None, encode_order(CheckpointOrder()))])
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        newest = _newest(settings)
        if newest and newest.control > offset:
            return
        time.sleep(0.05)


def _newest(settings: Settings) -> Manifest | None:
    found = [one.manifest for one in listing.listing(settings.checkpoints) if one.fault is None]
    return found[-1] if found else None


def _covers(log: EventLog, manifest: Manifest | None) -> bool:
    ends = {str(p): log.end(EXAMPLES, p) for p in range(log.partitions(EXAMPLES))}
    held = manifest.examples if manifest else {}
    return all(held.get(p, 0) == end for p, end in ends.items())


def _stream_again(
    log: EventLog, store: UserStore, settings: Settings, partition: int, comparison: Comparison
) -> Iterator[int]:
    """Run the stream worker on a recorded partition; yields the offset reached."""
    recorded, again = RecordedLog(log, partition), MemoryStore()
    worker = StreamWorker(recorded, again, settings)  # type: ignore[arg-type]
    worker.step(0)
    while worker.step(0):
        yield recorded.reached
    comparison.events += recorded.reached - log.start(EVENTS, partition)
    comparison.blocks += recorded.blocks
    comparison.blocks_different += [f"{partition}:{offset}" for offset in recorded.different]
    for key, value in again.scan():
        live = store.get(key)
        if live is not None and _has_moved_on(decode_profile(live), decode_profile(value)):
            comparison.users_moved_on += 1
            continue
        comparison.users += 1
        if live != value:
            comparison.users_different.append(decode_profile(value).name)
    yield recorded.reached


def _has_moved_on(live: Profile, again: Profile) -> bool:
    """Whether this person did something, or was described or forgotten, behind what was replayed."""
    return live.offset > again.offset or live.users_offset > again.users_offset


def _learn_again(log: EventLog, settings: Settings, comparison: Comparison) -> Iterator[tuple[int, int]]:
    """Take the journal's steps on a fresh stack up to the newest checkpoint; yields (steps taken, of how many)."""
    manifest = _newest(settings)
    if manifest is None:
        return
    comparison.version = manifest.version
    folder = settings.checkpoints / "journal"
    entries = list(journal.since(folder, journal.way(folder, manifest.epoch, manifest.step), 1, 0))
    stack, learnt = Stack(seeded(settings.learn.seed)), Learnt()
    for done, entry in enumerate(entries):
        if isinstance(entry, Rollback):
            go_back(learnt, entry)
        else:
            take(log, stack, learnt, entry, list(blocks_of(log, entry.reads)))
            comparison.steps += 1
        yield done + 1, len(entries)
    _, state = checkpoints.load(settings.checkpoints, manifest.version)
    _compare(stack.state(), state, comparison)


def _compare(again: State, live: State, comparison: Comparison) -> None:
    comparison.arrays = len(live)
    for name in sorted(again.keys() | live.keys()):
        if name not in again or name not in live or not _same_bits(again[name], live[name]):
            comparison.arrays_different.append(name)


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _tell(comparison: Comparison, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"equal": comparison.equal} | asdict(comparison)))
        return
    console = Console()
    c = comparison
    console.print(
        f"{c.events:,} events through the stream again: {c.blocks:,} blocks of examples, {_verdict(c.blocks_different)}"
    )
    moved = f" ({c.users_moved_on:,} have moved on since)" if c.users_moved_on else ""
    console.print(f"{c.users:,} users{moved}: {_verdict(c.users_different)}")
    console.print(
        f"{c.steps:,} steps of the journal to version {c.version}: {c.arrays} arrays, {_verdict(c.arrays_different)}"
    )
    console.print("equal, bit for bit" if c.equal else "NOT equal")


def _verdict(different: list[str]) -> str:
    if not different:
        return "all equal"
    return f"{len(different)} different: {', '.join(different[:5])}{' …' if len(different) > 5 else ''}"
