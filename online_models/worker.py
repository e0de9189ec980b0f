"""The learn worker: train the model on examples, step by step, and publish what changed."""

import logging
import time
from collections import deque
from collections.abc import Sequence
from threading import Event as Signal
from typing import NamedTuple

from online_models import metrics
from online_models.control import (
    CheckpointCommand,
    Command,
    CommandFailure,
    PauseCommand,
    ResumeCommand,
    RollbackCommand,
    WithdrawCommand,
    current_pause,
    decode_command,
    read_commands_with_offsets,
    send_answer,
)
from online_models.features.history_filter import NO_TRIAL
from online_models.guard.guard import Guard
from online_models.model import RecommenderModel, settings_from_config
from online_models.training import journal
from online_models.training.journal import Entry, Journal, Rollback, Step
from online_models.training.log_continuity import check_log_continues, report_lost_blocks
from online_models.training.progress import Progress
from online_models.training.progressive_metrics import ProgressiveMetrics
from online_models.training.rollback import (
    check_retained,
    plan_rollback,
    progress_after_rollback,
    progress_from_manifest,
)
from online_models.training.step import apply_step, read_blocks, to_offset_ranges
from online_models.training.updates import ModelUpdate, encode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoint_writer import CheckpointWriter
from online_models.versions.checkpoints import Manifest, version_name
from stream.clock import Clock, Interval
from stream.config import Settings
from stream.logs import EventLog, Position, Records
from stream.monitoring.heartbeat import Heartbeat
from stream.process.errors import describe_error
from stream.records.example_blocks import valid_blocks
from stream.topics import CONTROL, EXAMPLES, ITEMS, MODEL_UPDATES, QUARANTINE

_logger = logging.getLogger(__name__)


class _UnsavedVersion(NamedTuple):
    """A version whose checkpoint is being written."""

    version: str
    parent: str | None
    updates_offset: int  # end of the model updates that it includes


class LearnWorker:
    """Train step by step.

    The order within a step makes its bits repeatable, whenever the process dies:

    1. write to the journal which offsets the step consumes; durable before anything changes
    2. predict, then train
    3. publish what changed, with the offsets that the state now covers
    4. now and then, write a checkpoint that holds state and offsets together

    After a crash, load the newest valid checkpoint and replay the journal's steps after it.
    """

    _replica_checkpoints = 3  # model updates older than the last so many checkpoints are deleted
    _gauge_interval_s = 5.0
    _warning_interval_ms = 60_000

    def __init__(self, log: EventLog, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._settings = settings
        self._blocks_per_step = max(1, settings.learn.batch // 512)
        self._clock = clock
        self._folder = settings.checkpoints
        self.model = self._make_model(settings.learn.ranker)
        self.progress = Progress()
        self._parent: str | None = None
        self._unsaved: _UnsavedVersion | None = None  # whose checkpoint is being written
        self._base: str | None = None  # the version that this epoch continues
        self._next_items_warning_ms = 0
        self._progressive_metrics = ProgressiveMetrics()
        self._guard: Guard | None = None  # None while the journal's steps are replayed
        self._update_offsets: deque[int] = deque(maxlen=self._replica_checkpoints)
        # Assign all partitions explicitly: there is one learner, and it needs all of them.
        self._source = log.open_source(EXAMPLES, "learn", partitions=range(log.partitions(EXAMPLES)))
        self._checkpoint_writer = CheckpointWriter(
            self._folder, settings.learn.checkpoints_kept, self.model.trained_parts
        )
        self._recover()
        self._journal = Journal(self._folder / "journal")
        self._journal.rotate(self.progress.epoch, self.progress.step)
        self._checkpoint_interval = Interval(settings.learn.checkpoint_every, clock)
        self._gauge_interval = Interval(self._gauge_interval_s, clock)
        self._pause = current_pause(log, self.progress.control_offset)
        metrics.learn_paused.set(self._pause is not None)
        if settings.guard.enabled:
            self._guard = Guard(log, settings.guard, self._folder, clock.now_ms())
            self._guard.warm_up(self.progress, self._pause)

    @property
    def version(self) -> str:
        """Name of the current state."""
        return version_name(self.progress.epoch, self.progress.step)

    @property
    def parent(self) -> str | None:
        """Version of the newest checkpoint before this state; None if there is none."""
        return self._parent

    @property
    def pause(self) -> PauseCommand | None:
        """The pause in effect; None while training."""
        return self._pause

    def wait_for_checkpoint(self) -> None:
        """Wait until the checkpoint that is being written is complete."""
        self._settle_checkpoint(self._checkpoint_writer.wait())

    @property
    def guard(self) -> Guard | None:
        """The guard of this process, None if it is disabled."""
        return self._guard

    def run(self, stop: Signal) -> None:
        """Take whole steps until `stop` is set, then write a last checkpoint and close."""
        heartbeat = Heartbeat("learn")
        while not stop.is_set():
            started = time.monotonic()
            n_blocks = self.step(timeout=0.2)
            heartbeat.beat()
            if n_blocks < self._blocks_per_step:
                # The first blocks after an idle time train at once; blocks in quick succession train together.
                stop.wait(max(0.0, started + self._settings.learn.linger / 1000 - time.monotonic()))
        self.close()

    def close(self) -> None:
        self.save()
        self.wait_for_checkpoint()
        self._journal.close()
        self._source.close()

    def step(self, timeout: float) -> int:
        """Take one step; return the number of example blocks that it consumed."""
        self._process_commands()
        if self._pause:
            return self._observe_while_paused(timeout)
        batches = self._source.next_batch(self._blocks_per_step, timeout)
        if self._log.end_offset(CONTROL, 0) > self.progress.control_offset:
            # A command arrived while waiting: it takes effect before any example that came after it.
            self._seek()
            return 0
        items_end = self._log.end_offset(ITEMS, 0)
        if batches or items_end > self.progress.items_offset:
            self._take_step(batches, items_end)
        if self._checkpoint_interval.is_due():
            self.save()
        self._settle_checkpoint(self._checkpoint_writer.poll())
        if self._gauge_interval.is_due():
            self._update_gauges()
        return sum(len(records) for records in batches)

    def _take_step(self, batches: Sequence[Records], items_end: int) -> None:
        """Write the step to the journal, then apply it."""
        progress, ranges = self.progress, to_offset_ranges(batches)
        ranker = self._settings.learn.ranker
        entry = Step(progress.epoch, progress.step + 1, ranges, items_end, progress.control_offset, ranker)
        self._journal.append(entry)
        with metrics.step_duration_seconds.time():
            self._apply_step(entry, [block for records in batches for block in valid_blocks(records)])
        metrics.lag.set(sum(self._log.end_offsets(EXAMPLES).values()) - sum(progress.example_offsets.values()))

    def _observe_while_paused(self, timeout: float) -> int:
        """Let the guard read new examples; it sends the command that ends the pause."""
        if self._guard:
            self._guard.observe_while_paused(self.progress, self.model.predict_clicks)
        self._settle_checkpoint(self._checkpoint_writer.poll())
        time.sleep(timeout)
        return 0

    def save(self) -> None:
        """Write a checkpoint of this step in the background, unless it has one."""
        self._checkpoint_interval.restart()
        self.wait_for_checkpoint()
        if self.progress.step == 0 or (version := self.version) == self._parent:
            return
        manifest = self._build_manifest(version)
        self._checkpoint_writer.save(manifest, self.model.state(), self._base)
        self._journal.rotate(self.progress.epoch, self.progress.step)
        self._source.commit(_to_positions(self.progress))
        self._unsaved, self._parent = _UnsavedVersion(version, self._parent, manifest.updates_offset), version

    def _settle_checkpoint(self, is_written: bool | None) -> None:
        """Delete what a written checkpoint replaces; after a failed one, be due to write it again."""
        if is_written is None or self._unsaved is None:
            return
        unsaved, self._unsaved = self._unsaved, None
        if not is_written:
            self._parent = unsaved.parent if self._parent == unsaved.version else self._parent
            return
        self._trim_updates(unsaved.updates_offset)
        if oldest := checkpoints.list_version_names(self._folder)[:1]:
            starts = {partition: self._log.start_offset(EXAMPLES, partition) for partition in self._source.snapshot()}
            journal.prune(self._folder / "journal", oldest[0], starts)

    def _trim_updates(self, updates_offset: int) -> None:
        """Delete model updates that no replica needs: it starts from the newest valid checkpoint."""
        self._update_offsets.append(updates_offset)
        if len(self._update_offsets) == self._replica_checkpoints:
            self._log.trim(MODEL_UPDATES, 0, self._update_offsets[0])

    def _update_gauges(self) -> None:
        """Set the gauges of slow values, some of which other processes change through the log."""
        metrics.quarantine_events.set(self._log.end_offset(QUARANTINE, 0))
        metrics.item_coverage_ratio.set(self.model.items.coverage_ratio())

    def _apply_step(self, entry: Step, blocks: list[bytes]) -> None:
        trial_start = self._guard.trial_start if self._guard else NO_TRIAL
        results, changes = apply_step(self._log, self.model, self.progress, entry, blocks, trial_start)
        metrics.item_table_rows.set(len(self.model.items))
        for result in results:
            self._report_items_left_out(result.items_left_out)
            self._progressive_metrics.update(result)
            if self._guard:
                self._guard.observe(result, self.progress, self.model.copy_click_predictor)
        self._publish(changes)

    def _report_items_left_out(self, count: int) -> None:
        metrics.items_left_out.inc(count)
        if count and (now := self._clock.now_ms()) >= self._next_items_warning_ms:
            self._next_items_warning_ms = now + self._warning_interval_ms
            _logger.warning(
                "%d items of a step are left out: events have named %d items that the catalog does not have; find the"
                " producer of invented ids, or put the items into the catalog",
                count,
                self.model.settings.max_named_items,
            )

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
        """Load the newest valid checkpoint on the journal's path, then replay the steps after it."""
        folder, versions = self._folder / "journal", checkpoints.list_version_names(self._folder)
        checkpoints.remove_partial(self._folder)
        epochs = [int(version.partition("-")[0]) for version in versions]
        segments = journal.epoch_path(folder, max(journal.newest_epoch(folder), *epochs, 1))
        self._base = version_name(segments[1].epoch, segments[1].last_step or 0) if len(segments) > 1 else None
        on_path = [version for version in reversed(versions) if any(segment.contains(version) for segment in segments)]
        if checkpoint := checkpoints.load_latest(self._folder, on_path):
            self.progress = progress_from_manifest(checkpoint[0])
        check_log_continues(self._log, self.progress, checkpoint[0] if checkpoint else None)
        entries = list(journal.read_entries_after(folder, segments, self.progress.epoch, self.progress.step))
        # Steps are repeated with the ranker that took them, also when the settings name another one now.
        ranker = next((entry.ranker for entry in entries if isinstance(entry, Step)), self._settings.learn.ranker)
        self.model = self._make_model(ranker)
        if checkpoint:
            self._load(*checkpoint)
        for entry in entries:
            self._replay_entry(entry)
        self.model = self.model.with_ranker(self._settings.learn.ranker)
        self._seek()
        report_lost_blocks(self._log, self.progress)
        _logger.info("recovered version %s: checkpoint %s, %d journal steps", self.version, self._parent, len(entries))

    def _seek(self) -> None:
        for partition in self._source.snapshot():
            start = self._log.start_offset(EXAMPLES, partition)
            self._source.seek(partition, self.progress.example_offsets.get(partition, start))

    def _replay_entry(self, entry: Entry) -> None:
        progress = self.progress
        if isinstance(entry, Rollback):
            self._begin_epoch(entry)
        elif (entry.epoch, entry.step) == (progress.epoch, progress.step + 1):
            self.model = self.model.with_ranker(entry.ranker)
            self._apply_step(entry, list(read_blocks(self._log, entry.ranges)))
        else:
            before, after = version_name(progress.epoch, progress.step), version_name(entry.epoch, entry.step)
            raise ValueError(
                f"the journal continues with step {after} after {before}: part of it, or the checkpoint between them, "
                f"is missing from {self._folder}; restore it, or start from another checkpoint"
            )

    def _make_model(self, ranker: str) -> RecommenderModel:
        return RecommenderModel(settings_from_config(self._settings, ranker))

    def _load(self, manifest: Manifest, state: checkpoints.State) -> None:
        self.model = self._make_model(self.model.settings.ranker.name)
        self.model.restore(state)
        self._parent = manifest.version
        self.progress = progress_from_manifest(manifest)

    def _process_commands(self) -> None:
        """Run the commands that arrived since the last step; a command that fails changes nothing."""
        first = self.progress.control_offset
        records = self._log.read(CONTROL, 0, first, 100)
        if not len(records):
            return
        end, failure = records.offsets[-1] + 1, None
        due = {offset for offset, _ in read_commands_with_offsets(self._log, first, end)}  # not withdrawn
        for offset, value in zip(records.offsets, records.values, strict=True):
            try:
                command = decode_command(value or b"")
                target = self._rollback_target(command, offset + 1) if offset in due else None
            except (ValueError, OSError, checkpoints.DamagedCheckpoint) as error:
                _logger.error("command at offset %d of the control topic failed: %s", offset, describe_error(error))
                failure = CommandFailure(offset, describe_error(error))
                self.progress.control_offset = offset + 1
                continue
            if target:
                self._roll_back(*target)
                continue
            self.progress.control_offset = offset + 1
            if offset in due:
                self._run_command(command)
            if isinstance(command, WithdrawCommand) and command.offset < first and not self._restore_pause():
                message = f"command {command.offset} was carried out before it could be withdrawn"
                failure = CommandFailure(offset, message)
        send_answer(self._log, end, failure)

    def _run_command(self, command: Command) -> None:
        if isinstance(command, CheckpointCommand):
            self.save()
            self.wait_for_checkpoint()
        elif isinstance(command, PauseCommand | ResumeCommand):
            self._set_pause(command)
        # The next step applies the other commands.

    def _restore_pause(self) -> bool:
        """Return True if a withdrawal changed the pause.

        The commands that remain decide, as after a restart.
        """
        pause = current_pause(self._log, self.progress.control_offset)
        is_changed = pause != self._pause
        if is_changed:
            self._set_pause(pause or ResumeCommand("the pause was withdrawn"))
        return is_changed

    def _rollback_target(
        self, command: Command, control_offset: int
    ) -> tuple[Rollback, Manifest, checkpoints.State] | None:
        """Load the state that a rollback returns to; None for any other command."""
        if not isinstance(command, RollbackCommand):
            return None
        self.wait_for_checkpoint()
        gate.check_servable(self._folder, command.version)
        manifest, state = checkpoints.load(self._folder, command.version)
        check_retained(self._log, manifest)
        return plan_rollback(command, manifest, self.progress, control_offset), manifest, state

    def _set_pause(self, command: Command) -> None:
        self._pause = command if isinstance(command, PauseCommand) else None
        if self._guard:
            self._guard.on_pause(self._pause) if self._pause else self._guard.on_resume()
        metrics.learn_paused.set(self._pause is not None)
        _logger.warning("training paused: %s" if self._pause else "training resumed: %s", command)

    def _roll_back(self, entry: Rollback, manifest: Manifest, state: checkpoints.State) -> None:
        """Begin a new epoch. The command is due until the epoch's line is in the journal."""
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
        self.progress = progress_after_rollback(self.progress, entry)
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
            examples_topic=self._log.topic_id(EXAMPLES),
            watermark=progress.watermark,
            open_alarm=self._guard.open_alarm if self._guard else "",
            blocked_reason=self._guard.version_block_reason() if self._guard else "",
            config=self._settings.learn.model_dump(mode="json"),
            metrics=self._progressive_metrics.values(),
        )


def _to_positions(progress: Progress) -> dict[int, Position]:
    return {partition: Position(offset) for partition, offset in progress.example_offsets.items()}
