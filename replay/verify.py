"""`headrace replay run`: replay the log through the live code and compare the bits."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from online_models.control import CheckpointCommand, encode_command
from online_models.model import RecommenderModel, settings_with_seed
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.progress import Progress as TrainingProgress
from online_models.training.rollback import progress_after_rollback
from online_models.training.step import apply_step, read_blocks
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

_CHECKPOINT_TIMEOUT_S = 10.0  # to wait for the live learner


@dataclass(slots=True)
class Comparison:
    """Differences between the replay and the live run."""

    version: str | None = None
    events: int = 0
    blocks: int = 0
    differing_blocks: list[str] = field(default_factory=list)
    users: int = 0
    differing_users: list[str] = field(default_factory=list)
    users_updated_since: int = 0  # not compared: changed by events after the replayed ones
    steps: int = 0
    arrays: int = 0
    differing_arrays: list[str] = field(default_factory=list)

    @property
    def equal(self) -> bool:
        return not (self.differing_blocks or self.differing_users or self.differing_arrays)


def verify_log(config: Path | None, as_json: bool) -> int:
    """Replay and compare; exit code 0 if all bits are equal, 1 if not."""
    settings = load(config)
    log = open_topics(settings, SystemClock())
    store = open_store(settings.store_url, settings.store.prefix)
    _request_checkpoint(log, settings)
    comparison = Comparison()
    with Progress(console=Console(stderr=True), transient=True) as bars:
        for partition in range(log.partitions(EVENTS)):
            task = bars.add_task(f"stream, partition {partition}", total=log.end_offset(EVENTS, partition))
            for offset in _replay_stream(log, store, settings, partition, comparison):
                bars.update(task, completed=offset)
        task = bars.add_task("learn", total=None)
        for done, steps in _replay_steps(log, settings, comparison):
            bars.update(task, completed=done, total=steps)
    store.close()
    log.close()
    _print_comparison(comparison, as_json)
    return 0 if comparison.equal else 1


def _request_checkpoint(log: EventLog, settings: Settings) -> None:
    """Ask a live learner for a checkpoint, unless the newest one includes all examples."""
    if _is_up_to_date(log, _newest_manifest(settings)):
        return
    offset = log.append(CONTROL, 0, [(None, encode_command(CheckpointCommand()))])
    deadline = time.monotonic() + _CHECKPOINT_TIMEOUT_S
    while time.monotonic() < deadline:
        newest = _newest_manifest(settings)
        if newest and newest.control_offset > offset:
            return
        time.sleep(0.05)


def _newest_manifest(settings: Settings) -> Manifest | None:
    manifests = [info.manifest for info in listing.read_versions(settings.checkpoints) if info.error is None]
    return manifests[-1] if manifests else None


def _is_up_to_date(log: EventLog, manifest: Manifest | None) -> bool:
    ends = {str(p): log.end_offset(EXAMPLES, p) for p in range(log.partitions(EXAMPLES))}
    offsets = manifest.example_offsets if manifest else {}
    return all(offsets.get(p, 0) == end for p, end in ends.items())


def _replay_stream(
    log: EventLog, store: UserStore, settings: Settings, partition: int, comparison: Comparison
) -> Iterator[int]:
    """Run the stream worker on a recorded partition; yield the offset reached."""
    recorded_log, replayed_store = RecordedLog(log, partition), MemoryStore()
    worker = StreamWorker(recorded_log, replayed_store, settings)  # type: ignore[arg-type]
    worker.step(0)
    while worker.step(0):
        yield recorded_log.next_offset
    comparison.events += recorded_log.next_offset - log.start_offset(EVENTS, partition)
    comparison.blocks += recorded_log.blocks
    comparison.differing_blocks += [f"{partition}:{offset}" for offset in recorded_log.differing_offsets]
    for key, value in replayed_store.scan():
        live_value = store.get(key)
        if live_value is not None and _has_later_updates(decode_profile(live_value), decode_profile(value)):
            comparison.users_updated_since += 1
            continue
        comparison.users += 1
        if live_value != value:
            comparison.differing_users.append(decode_profile(value).user_id)
    yield recorded_log.next_offset


def _has_later_updates(live: Profile, replayed: Profile) -> bool:
    """Return True if the live record includes events or user records after the replayed ones."""
    return live.offset > replayed.offset or live.users_offset > replayed.users_offset


def _replay_steps(log: EventLog, settings: Settings, comparison: Comparison) -> Iterator[tuple[int, int]]:
    """Repeat the journal on a new model, up to the newest checkpoint; yield (done, total) steps."""
    manifest = _newest_manifest(settings)
    if manifest is None:
        return
    comparison.version = manifest.version
    folder = settings.checkpoints / "journal"
    entries = list(journal.read_entries_after(folder, journal.epoch_path(folder, manifest.epoch, manifest.step), 1, 0))
    model, progress = (
        RecommenderModel(settings_with_seed(settings.learn.seed, settings.learn.ranker)),
        TrainingProgress(),
    )
    for done, entry in enumerate(entries):
        if isinstance(entry, Rollback):
            progress = progress_after_rollback(progress, entry)
        else:
            model = model.with_ranker(entry.ranker)
            apply_step(log, model, progress, entry, list(read_blocks(log, entry.ranges)))
            comparison.steps += 1
        yield done + 1, len(entries)
    _, state = checkpoints.load(settings.checkpoints, manifest.version)
    _compare_arrays(model.state(), state, comparison)


def _compare_arrays(replayed: State, live: State, comparison: Comparison) -> None:
    comparison.arrays = len(live)
    for name in sorted(replayed.keys() | live.keys()):
        if name not in replayed or name not in live or not _is_bit_identical(replayed[name], live[name]):
            comparison.differing_arrays.append(name)


def _is_bit_identical(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _print_comparison(comparison: Comparison, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"equal": comparison.equal} | asdict(comparison)))
        return
    console, c = Console(), comparison
    blocks, users, arrays = map(_format_differences, (c.differing_blocks, c.differing_users, c.differing_arrays))
    skipped = f" ({c.users_updated_since:,} not compared: changed since)" if c.users_updated_since else ""
    console.print(f"{c.events:,} events replayed: {c.blocks:,} example blocks, {blocks}")
    console.print(f"{c.users:,} users{skipped}: {users}")
    console.print(f"{c.steps:,} steps replayed to version {c.version}: {c.arrays} arrays, {arrays}")
    console.print("Equal, bit for bit." if c.equal else "NOT equal.")


def _format_differences(differing: list[str]) -> str:
    if not differing:
        return "all equal"
    return f"{len(differing)} different: {', '.join(differing[:5])}{' …' if len(differing) > 5 else ''}"
