"""`headrace replay run`: replay the log through the live code and compare the bits."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from online_models.control import CheckpointCommand, encode_command
from online_models.model import RecommenderModel, settings_from_config
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.progress import Progress as TrainingProgress
from online_models.training.rollback import progress_after_rollback
from online_models.training.step import apply_step, read_blocks
from online_models.versions import checkpoints, listing
from online_models.versions.checkpoints import Manifest, State, version_name
from replay.comparison import Comparison, print_comparison
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

_JOURNAL = "journal"


def verify_log(config: Path | None, as_json: bool, checkpoint_timeout_s: float = 10.0) -> int:
    """Replay and compare; exit code 0 if all bits are equal, 1 if not.

    It waits up to `checkpoint_timeout_s` for a checkpoint of the live learner.
    """
    settings = load(config)
    log = open_topics(settings, SystemClock())
    store = open_store(settings.store_url, settings.store.prefix)
    _request_checkpoint(log, settings, checkpoint_timeout_s)
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
    print_comparison(comparison, as_json)
    return 0 if comparison.equal else 1


def _request_checkpoint(log: EventLog, settings: Settings, timeout_s: float) -> None:
    """Ask a live learner for a checkpoint, unless that of its epoch includes all examples."""
    if not _count_blocks_since(log, _newest_manifest(settings)):
        return
    offset = log.append(CONTROL, 0, [(None, encode_command(CheckpointCommand()))])
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        newest = _newest_manifest(settings)
        if newest and newest.control_offset > offset:
            return
        time.sleep(0.05)


def _newest_manifest(settings: Settings) -> Manifest | None:
    """Manifest of the newest version of the learner's epoch; a rollback discards earlier epochs."""
    epoch = _learner_epoch(settings)
    manifests = [info.manifest for info in listing.read_versions(settings.checkpoints) if not info.error]
    return next((m for m in reversed(manifests) if m and m.epoch == epoch), None)


def _learner_epoch(settings: Settings) -> int:
    """Epoch in which the learner trains, or continues when it starts."""
    versions = checkpoints.list_version_names(settings.checkpoints)
    epochs = [int(version.partition("-")[0]) for version in versions]
    return max(journal.newest_epoch(settings.checkpoints / _JOURNAL), *epochs, 1)


def _count_blocks_since(log: EventLog, manifest: Manifest | None) -> int:
    """Example blocks that a version does not include; at least 1 without a version."""
    offsets = manifest.example_offsets if manifest else {}
    count = sum(log.end_offset(EXAMPLES, p) - offsets.get(str(p), 0) for p in range(log.partitions(EXAMPLES)))
    return count if manifest else max(1, count)


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
    manifest, folder = _newest_manifest(settings), settings.checkpoints / _JOURNAL
    comparison.epoch = _learner_epoch(settings)
    if manifest is None:
        comparison.problem = _describe_missing_version(comparison, folder)
        return
    comparison.version, comparison.blocks_since = manifest.version, _count_blocks_since(log, manifest)
    entries = list(journal.read_entries_after(folder, journal.epoch_path(folder, manifest.epoch, manifest.step), 1, 0))
    model, progress = (
        RecommenderModel(settings_from_config(settings)),
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


def _describe_missing_version(comparison: Comparison, folder: Path) -> str:
    """Reason that no version can be compared; empty if nothing was trained yet."""
    if comparison.epoch == 1 and not comparison.blocks:
        return ""
    base = next(iter(journal.epoch_path(folder, comparison.epoch)[1:]), None)
    origin = f", which continues from {version_name(base.epoch, base.last_step or 0)} after a rollback," if base else ""
    return (
        f"epoch {comparison.epoch}{origin} has no checkpoint yet; start headrace learn if it does not run, and repeat "
        "this when `headrace models list` shows a version of it"
    )


def _compare_arrays(replayed: State, live: State, comparison: Comparison) -> None:
    comparison.arrays = len(live)
    for name in sorted(replayed.keys() | live.keys()):
        if name not in replayed or name not in live or not _is_bit_identical(replayed[name], live[name]):
            comparison.differing_arrays.append(name)


def _is_bit_identical(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
