"""The learn process: examples in, a better model out."""

import logging
import time
from collections import deque
from threading import Event as Signal

from online_models import metrics
from online_models.control import (
    CheckpointCommand,
    Command,
    ExcludeActionsCommand,
    PauseCommand,
    RollbackCommand,
    TruncateHistoryCommand,
    current_pause,
    decode_command,
)
from online_models.guard.guard import Guard
from online_models.model import RecommenderModel, settings_with_seed
from online_models.training import journal
from online_models.training.journal import Entry, Journal, Rollback, Step
from online_models.training.progressive_metrics import ProgressiveMetrics
from online_models.training.rollback import apply_rollback, check_retained, plan_rollback, progress_from_manifest
from online_models.training.step import Progress, apply_step, read_blocks, to_offset_ranges
from online_models.training.updates import ModelUpdate, encode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoint_writer import CheckpointWriter
from online_models.versions.checkpoints import Manifest, version_name
from stream.clock import Clock
from stream.config import Settings
from stream.logs import EventLog, Position
from stream.records.example_blocks import valid_blocks
from stream.topics import ALARMS, CONTROL, EXAMPLES, ITEMS, MODEL_UPDATES, QUARANTINE

_MAX_REPLICA_LAG = 3  # checkpoints
_GAUGE_INTERVAL_MS = 5_000  # ms between looks at what only people on call want to know
_logger = logging.getLogger(__name__)


class LearnWorker:
    """Learns step by step. The order of each step makes its bits repeatable, whenever the process dies:

    1. write to the journal which offsets the step consumes; durable before anything changes
    2. predict, then learn
    3. publish what changed, with the offsets that the state now covers
    4. now and then, write a checkpoint that holds state and offsets together

    After a crash the newest sound checkpoint is loaded and the journal's steps after it are taken again.
    """

    def __init__(self, log: EventLog, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._settings = settings
        self._blocks_per_step = max(1, settings.learn.batch // 512)
        self._clock = clock
        self._folder = settings.checkpoints
        self.model = RecommenderModel(settings_with_seed(settings.learn.seed))
        self.progress = Progress()
        self._parent: str | None = None
        self._base: str | None = None  # the version that this epoch goes on from
        self._progressive_metrics = ProgressiveMetrics()
        self._guard: Guard | None = None  # looks away while the journal's steps are taken again
        self._update_offsets: deque[int] = deque(maxlen=_MAX_REPLICA_LAG)
        # All partitions by name: there is one learner, and it needs all of them.
        self._source = log.open_source(EXAMPLES, "learn", partitions=range(log.partitions(EXAMPLES)))
        self._checkpoint_writer = CheckpointWriter(self._folder, settings.learn.checkpoints_kept)
        self._recover()
        self._journal = Journal(self._folder / "journal")
        self._journal.rotate(self.progress.epoch, self.progress.step)
        self._saved_at = self._gauges_updated_at = clock.now_ms()
        self._pause = current_pause(log, self.progress.control_offset)
        metrics.learn_paused.set(self._pause is not None)
        if settings.guard.enabled:
            self._guard = Guard(log, settings.guard, self._folder, clock.now_ms())
            self._guard.warm_up(self.progress, self._pause)

    @property
    def version(self) -> str:
        """The name of the state as it is now."""
        return version_name(self.progress.epoch, self.progress.step)

    def run(self, stop: Signal) -> None:
        """start → run → drain → stop: whole steps until told to stop, then a last checkpoint."""
        while not stop.is_set():
            started = time.monotonic()
            if self.step(timeout=0.2) < self._blocks_per_step:
                # What comes first after a quiet time is learnt at once, what comes thick and fast is learnt together.
                stop.wait(max(0.0, started + self._settings.learn.linger / 1000 - time.monotonic()))
        self.close()

    def close(self) -> None:
        self.save()
        self._checkpoint_writer.wait()
        self._journal.close()
        self._source.close()

    def step(self, timeout: float) -> int:
        """Take one step; returns how many blocks of examples it consumed."""
        self._process_commands()
        if self._pause:
            return self._observe_while_paused(timeout)
        batches = self._source.next_batch(self._blocks_per_step, timeout)
        if self._log.end_offset(CONTROL, 0) > self.progress.control_offset:
            # An order came while it waited: nothing that came behind it is learnt before it is carried out.
            self._seek()
            return 0
        items_end = self._log.end_offset(ITEMS, 0)
        if batches or items_end > self.progress.items_offset:
            entry = Step(
                self.progress.epoch,
                self.progress.step + 1,
                to_offset_ranges(batches),
                items_end,
                self.progress.control_offset,
            )
            self._journal.append(entry)
            with metrics.step_duration_seconds.time():
                self._apply_step(entry, [block for records in batches for block in valid_blocks(records)])
            metrics.lag.set(sum(self._log.end_offsets(EXAMPLES).values()) - sum(self.progress.example_offsets.values()))
        if self._clock.now_ms() - self._saved_at >= self._settings.learn.checkpoint_every * 1000:
            self.save()
        self._checkpoint_writer.poll()
        if self._clock.now_ms() - self._gauges_updated_at >= _GAUGE_INTERVAL_MS:
            self._update_gauges()
        return sum(len(records) for records in batches)

    def _observe_while_paused(self, timeout: float) -> int:
        """While learning is held: the guard sees what comes, and says when it is over."""
        if self._guard:
            self._guard.observe_while_paused(self.progress, self.model)
        self._checkpoint_writer.poll()
        time.sleep(timeout)
        return 0

    def save(self) -> None:
        """Write a checkpoint of this step beside the learning; nothing if this step has one."""
        self._saved_at = self._clock.now_ms()
        if self.progress.step == 0 or (version := self.version) == self._parent:
            return
        self._checkpoint_writer.save(self._build_manifest(version), self.model.state(), self._base)
        self._journal.rotate(self.progress.epoch, self.progress.step)
        self._source.commit(_to_positions(self.progress))
        self._parent = version
        # A replica starts from the newest sound checkpoint; updates before the third newest are nobody's any more.
        self._update_offsets.append(self._log.end_offset(MODEL_UPDATES, 0))
        self._log.trim(
            MODEL_UPDATES, 0, self._update_offsets[0] if len(self._update_offsets) == _MAX_REPLICA_LAG else 0
        )
        if oldest := checkpoints.list_version_names(self._folder)[:1]:
            starts = {partition: self._log.start_offset(EXAMPLES, partition) for partition in self._source.snapshot()}
            journal.prune(self._folder / "journal", oldest[0], starts)

    def _update_gauges(self) -> None:
        """Measure what changes slowly. Alarms and quarantine are counted where they stand, whoever put them there."""
        self._gauges_updated_at = self._clock.now_ms()
        metrics.alarms.set(self._log.end_offset(ALARMS, 0))
        metrics.quarantine_events.set(self._log.end_offset(QUARANTINE, 0))
        metrics.item_coverage_ratio.set(self.model.items.coverage_ratio())

    def _apply_step(self, entry: Step, blocks: list[bytes]) -> None:
        result = apply_step(self._log, self.model, self.progress, entry, blocks)
        if result.training_batch is not None:
            self._progressive_metrics.update(result.training_batch.batch, self.model)
            if self._guard:
                self._guard.observe(result.training_batch, self.model, self.version, self.progress)
        self._publish(result.changes)

    def _publish(self, changes: checkpoints.State, base: str = "") -> None:
        progress = self.progress
        update = ModelUpdate(
            epoch=progress.epoch,
            step=progress.step,
            base=base,
            items_offset=progress.items_offset,
            control_offset=progress.control_offset,
            offsets={str(p): offset for p, offset in progress.offsets.items()},
            changes=changes,
            blocked_reason=self._guard.block_reason if self._guard else "",
        )
        metrics.serving_blocked.set(bool(update.blocked_reason))
        self._log.append(MODEL_UPDATES, 0, [(None, encode_update(update))])
        metrics.steps.inc()

    def _recover(self) -> None:
        """Load the newest sound checkpoint on the way to the journal's end, then take the steps from there again."""
        folder, versions = self._folder / "journal", checkpoints.list_version_names(self._folder)
        checkpoints.remove_partial(self._folder)
        epochs = [int(version.partition("-")[0]) for version in versions]
        segments = journal.epoch_path(folder, max(journal.newest_epoch(folder), *epochs, 1))
        self._base = version_name(segments[1].epoch, segments[1].last_step or 0) if len(segments) > 1 else None
        reachable = [
            version for version in reversed(versions) if any(segment.contains(version) for segment in segments)
        ]
        checkpoint = checkpoints.load_latest(self._folder, reachable)
        if checkpoint:
            self._load(*checkpoint)
        replayed = 0
        for entry in journal.read_entries_after(folder, segments, self.progress.epoch, self.progress.step):
            self._replay_entry(entry)
            replayed += 1
        self._seek()
        _logger.info("at version %s: checkpoint %s, %d steps of the journal", self.version, self._parent, replayed)

    def _seek(self) -> None:
        for partition in self._source.snapshot():
            start = self._log.start_offset(EXAMPLES, partition)
            self._source.seek(partition, self.progress.example_offsets.get(partition, start))

    def _replay_entry(self, entry: Entry) -> None:
        progress = self.progress
        if isinstance(entry, Rollback):
            self._begin_epoch(entry)
        elif (entry.epoch, entry.step) == (progress.epoch, progress.step + 1):
            self._apply_step(entry, list(read_blocks(self._log, entry.ranges)))
        else:
            before, after = version_name(progress.epoch, progress.step), version_name(entry.epoch, entry.step)
            raise ValueError(
                f"the journal goes on with step {after} behind {before}: "
                f"a part of it, or the checkpoint between them, is missing from {self._folder}"
            )

    def _load(self, manifest: Manifest, state: checkpoints.State) -> None:
        self.model = RecommenderModel(settings_with_seed(self._settings.learn.seed))
        self.model.restore(state)
        self._parent = manifest.version
        self.progress = progress_from_manifest(manifest)

    def _process_commands(self) -> None:
        """Carry out the orders that came in since the last step; one that cannot be carried out changes nothing."""
        records = self._log.read(CONTROL, 0, self.progress.control_offset, 100)
        for offset, value in zip(records.offsets, records.values, strict=True):
            try:
                command = decode_command(value or b"")
                target = self._rollback_target(command, offset + 1)
            except (ValueError, OSError, checkpoints.DamagedCheckpoint) as error:
                _logger.error("order at offset %d of the control topic not carried out: %s", offset, error)
                self.progress.control_offset = offset + 1
                continue
            if target:
                self._roll_back(*target)
                continue
            self.progress.control_offset = offset + 1
            if isinstance(command, CheckpointCommand):
                self.save()
                self._checkpoint_writer.wait()
            elif not isinstance(command, TruncateHistoryCommand | ExcludeActionsCommand):  # those are the next step's
                self._set_pause(command)

    def _rollback_target(
        self, command: Command, control_offset: int
    ) -> tuple[Rollback, Manifest, checkpoints.State] | None:
        """Where a rollback leads to, None for any other order."""
        if not isinstance(command, RollbackCommand):
            return None
        self._checkpoint_writer.wait()
        gate.check_servable(self._folder, command.version)
        manifest, state = checkpoints.load(self._folder, command.version)
        check_retained(self._log, manifest)
        return plan_rollback(command, manifest, self.progress, control_offset), manifest, state

    def _set_pause(self, command: Command) -> None:
        self._pause = command if isinstance(command, PauseCommand) else None
        if self._guard:
            self._guard.on_pause(self._pause) if self._pause else self._guard.on_resume()
        metrics.learn_paused.set(self._pause is not None)
        _logger.warning("learning is held: %s" if self._pause else "learning goes on: %s", command)

    def _roll_back(self, entry: Rollback, manifest: Manifest, state: checkpoints.State) -> None:
        """The journal decides: before its line the order is still to be carried out, behind it the epoch has begun."""
        self._base = entry.version
        self.save()
        self._journal.rotate(entry.epoch, entry.step)
        self._journal.append(entry)
        self._load(manifest, state)
        self._begin_epoch(entry)
        self._seek()
        _logger.warning("rolled back to %s as epoch %d", entry.version, entry.epoch)
        metrics.rollbacks.inc()
        if self._guard:
            self._guard.on_rollback()

    def _begin_epoch(self, entry: Rollback) -> None:
        apply_rollback(self.progress, entry)
        self._parent = self._base = entry.version
        self._publish({}, base=entry.version)

    def _build_manifest(self, version: str) -> Manifest:
        progress = self.progress
        return Manifest(
            version=version,
            epoch=progress.epoch,
            step=progress.step,
            parent=self._parent,
            created=self._clock.now_ms(),
            code_version=checkpoints.code_version(),
            example_offsets={str(p): offset for p, offset in progress.example_offsets.items()},
            offsets={str(p): offset for p, offset in progress.offsets.items()},
            skip={str(p): ranges for p, ranges in progress.skip.items()},
            skip_impressions={str(p): ranges for p, ranges in progress.skip_impressions.items()},
            items_offset=progress.items_offset,
            control_offset=progress.control_offset,
            updates_offset=self._log.end_offset(MODEL_UPDATES, 0),
            watermark=progress.watermark,
            open_alarm=self._guard.open_alarm if self._guard else "",
            blocked_reason=self._guard.version_block_reason() if self._guard else "",
            config=self._settings.learn.model_dump(mode="json"),
            metrics=self._progressive_metrics.values(),
        )


def _to_positions(progress: Progress) -> dict[int, Position]:
    return {partition: Position(offset) for partition, offset in progress.example_offsets.items()}
