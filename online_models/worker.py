"""The learn process: examples in, a better model out."""

import logging
import time
from collections import deque
from threading import Event as Signal

from online_models import metrics
from online_models.control import (
    CheckpointOrder,
    ForgetOrder,
    HoldOrder,
    Order,
    RollbackOrder,
    StrikeOrder,
    decode_order,
    hold_at,
)
from online_models.guard.guard import Guard
from online_models.model import Stack, seeded
from online_models.training import journal
from online_models.training.journal import Entry, Journal, Rollback, Step
from online_models.training.progressive_metrics import Meter
from online_models.training.rollback import demand_kept, go_back, plan_rollback, progress_of
from online_models.training.step import Progress, blocks_of, reads_of, take
from online_models.training.updates import Update, encode_update
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoint_writer import Keeper
from online_models.versions.checkpoints import Manifest, name_of
from stream.clock import Clock
from stream.config import Settings
from stream.logs import EventLog, Position
from stream.records.example_blocks import sound_blocks
from stream.topics import ALARMS, CONTROL, EXAMPLES, ITEMS, MODEL_UPDATES, QUARANTINE

_REPLICAS_MAY_LAG = 3  # checkpoints
_TELL_EVERY = 5_000  # ms between looks at what only people on call want to know
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
        self.stack = Stack(seeded(settings.learn.seed))
        self.progress = Progress()
        self._parent: str | None = None
        self._base: str | None = None  # the version that this epoch goes on from
        self._meter = Meter()
        self._guard: Guard | None = None  # looks away while the journal's steps are taken again
        self._updates: deque[int] = deque(maxlen=_REPLICAS_MAY_LAG)
        # All partitions by name: there is one learner, and it needs all of them.
        self._source = log.source(EXAMPLES, "learn", partitions=range(log.partitions(EXAMPLES)))
        self._keeper = Keeper(self._folder, settings.learn.keep)
        self._resume()
        self._journal = Journal(self._folder / "journal")
        self._journal.rotate(self.progress.epoch, self.progress.step)
        self._saved_at = self._told_at = clock.now_ms()
        self._hold = hold_at(log, self.progress.control)
        metrics.held.set(self._hold is not None)
        if settings.guard.enabled:
            self._guard = Guard(log, settings.guard, self._folder, clock.now_ms())
            self._guard.warm(self.progress, self._hold)

    @property
    def version(self) -> str:
        """The name of the state as it is now."""
        return name_of(self.progress.epoch, self.progress.step)

    def run(self, stop: Signal) -> None:
        """start → run → drain → stop: whole steps until told to stop, then a last checkpoint."""
        while not stop.is_set():
            begun = time.monotonic()
            if self.step(timeout=0.2) < self._blocks_per_step:
                # What comes first after a quiet time is learnt at once, what comes thick and fast is learnt together.
                stop.wait(max(0.0, begun + self._settings.learn.linger / 1000 - time.monotonic()))
        self.close()

    def close(self) -> None:
        self.save()
        self._keeper.wait()
        self._journal.close()
        self._source.close()

    def step(self, timeout: float) -> int:
        """Take one step; returns how many blocks of examples it consumed."""
        self._obey()
        if self._hold:
            return self._look_on(timeout)
        batches = self._source.next_batch(self._blocks_per_step, timeout)
        if self._log.end(CONTROL, 0) > self.progress.control:
            # An order came while it waited: nothing that came behind it is learnt before it is carried out.
            self._seek()
            return 0
        items = self._log.end(ITEMS, 0)
        if batches or items > self.progress.items:
            entry = Step(self.progress.epoch, self.progress.step + 1, reads_of(batches), items, self.progress.control)
            self._journal.append(entry)
            with metrics.step_seconds.time():
                self._take(entry, [block for records in batches for block in sound_blocks(records)])
            metrics.lag.set(sum(self._log.ends(EXAMPLES).values()) - sum(self.progress.examples.values()))
        if self._clock.now_ms() - self._saved_at >= self._settings.learn.checkpoint_every * 1000:
            self.save()
        self._keeper.reap()
        if self._clock.now_ms() - self._told_at >= _TELL_EVERY:
            self._tell()
        return sum(len(records) for records in batches)

    def _look_on(self, timeout: float) -> int:
        """While learning is held: the guard sees what comes, and says when it is over."""
        if self._guard:
            self._guard.look(self.progress, self.stack)
        self._keeper.reap()
        time.sleep(timeout)
        return 0

    def save(self) -> None:
        """Write a checkpoint of this step beside the learning; nothing if this step has one."""
        self._saved_at = self._clock.now_ms()
        if self.progress.step == 0 or (version := self.version) == self._parent:
            return
        self._keeper.save(self._manifest(version), self.stack.state(), self._base)
        self._journal.rotate(self.progress.epoch, self.progress.step)
        self._source.commit(_positions(self.progress))
        self._parent = version
        # A replica starts from the newest sound checkpoint; updates before the third newest are nobody's any more.
        self._updates.append(self._log.end(MODEL_UPDATES, 0))
        self._log.trim(MODEL_UPDATES, 0, self._updates[0] if len(self._updates) == _REPLICAS_MAY_LAG else 0)
        if oldest := checkpoints.versions_in(self._folder)[:1]:
            starts = {partition: self._log.start(EXAMPLES, partition) for partition in self._source.snapshot()}
            journal.prune(self._folder / "journal", oldest[0], starts)

    def _tell(self) -> None:
        """Measure what changes slowly. Alarms and quarantine are counted where they stand, whoever put them there."""
        self._told_at = self._clock.now_ms()
        metrics.alarms.set(self._log.end(ALARMS, 0))
        metrics.quarantined.set(self._log.end(QUARANTINE, 0))
        metrics.items_shown.set(self.stack.items.shown_share())

    def _take(self, entry: Step, blocks: list[bytes]) -> None:
        taken = take(self._log, self.stack, self.progress, entry, blocks)
        if taken.lesson is not None:
            self._meter.see(taken.lesson.batch, self.stack)
            if self._guard:
                self._guard.see(taken.lesson, self.stack, self.version, self.progress)
        self._publish(taken.changes)

    def _publish(self, changes: checkpoints.State, base: str = "") -> None:
        progress = self.progress
        update = Update(
            epoch=progress.epoch,
            step=progress.step,
            base=base,
            items=progress.items,
            control=progress.control,
            offsets={str(p): offset for p, offset in progress.offsets.items()},
            changes=changes,
            refused=self._guard.refusal if self._guard else "",
        )
        metrics.refused.set(bool(update.refused))
        self._log.append(MODEL_UPDATES, 0, [(None, encode_update(update))])
        metrics.steps.inc()

    def _resume(self) -> None:
        """Load the newest sound checkpoint on the way to the journal's end, then take the steps from there again."""
        folder, versions = self._folder / "journal", checkpoints.versions_in(self._folder)
        checkpoints.sweep(self._folder)
        epochs = [int(version.partition("-")[0]) for version in versions]
        legs = journal.way(folder, max(journal.newest_epoch(folder), *epochs, 1))
        self._base = name_of(legs[1].epoch, legs[1].until or 0) if len(legs) > 1 else None
        fitting = [version for version in reversed(versions) if any(leg.holds(version) for leg in legs)]
        loaded = checkpoints.load_latest(self._folder, fitting)
        if loaded:
            self._become(*loaded)
        redone = 0
        for entry in journal.since(folder, legs, self.progress.epoch, self.progress.step):
            self._redo(entry)
            redone += 1
        self._seek()
        _logger.info("at version %s: checkpoint %s, %d steps of the journal", self.version, self._parent, redone)

    def _seek(self) -> None:
        for partition in self._source.snapshot():
            start = self._log.start(EXAMPLES, partition)
            self._source.seek(partition, self.progress.examples.get(partition, start))

    def _redo(self, entry: Entry) -> None:
        at = self.progress
        if isinstance(entry, Rollback):
            self._begin_epoch(entry)
        elif (entry.epoch, entry.step) == (at.epoch, at.step + 1):
            self._take(entry, list(blocks_of(self._log, entry.reads)))
        else:
            before, behind = name_of(at.epoch, at.step), name_of(entry.epoch, entry.step)
            raise ValueError(
                f"the journal goes on with step {behind} behind {before}: "
                f"a part of it, or the checkpoint between them, is missing from {self._folder}"
            )

    def _become(self, manifest: Manifest, state: checkpoints.State) -> None:
        self.stack = Stack(seeded(self._settings.learn.seed))
        self.stack.restore(state)
        self._parent = manifest.version
        self.progress = progress_of(manifest)

    def _obey(self) -> None:
        """Carry out the orders that came in since the last step; one that cannot be carried out changes nothing."""
        records = self._log.read(CONTROL, 0, self.progress.control, 100)
        for offset, value in zip(records.offsets, records.values, strict=True):
            try:
                order = decode_order(value or b"")
                goal = self._goal(order, offset + 1)
            except (ValueError, OSError, checkpoints.DamagedCheckpoint) as error:
                _logger.error("order at offset %d of the control topic not carried out: %s", offset, error)
                self.progress.control = offset + 1
                continue
            if goal:
                self._roll_back(*goal)
                continue
            self.progress.control = offset + 1
            if isinstance(order, CheckpointOrder):
                self.save()
                self._keeper.wait()
            elif not isinstance(order, ForgetOrder | StrikeOrder):  # those are the next step's
                self._take_hold(order)

    def _goal(self, order: Order, control: int) -> tuple[Rollback, Manifest, checkpoints.State] | None:
        """Where a rollback leads to, None for any other order."""
        if not isinstance(order, RollbackOrder):
            return None
        self._keeper.wait()
        gate.demand_served(self._folder, order.version)
        manifest, state = checkpoints.load(self._folder, order.version)
        demand_kept(self._log, manifest)
        return plan_rollback(order, manifest, self.progress, control), manifest, state

    def _take_hold(self, order: Order) -> None:
        self._hold = order if isinstance(order, HoldOrder) else None
        if self._guard:
            self._guard.held(self._hold) if self._hold else self._guard.resumed()
        metrics.held.set(self._hold is not None)
        _logger.warning("learning is held: %s" if self._hold else "learning goes on: %s", order)

    def _roll_back(self, entry: Rollback, manifest: Manifest, state: checkpoints.State) -> None:
        """The journal decides: before its line the order is still to be carried out, behind it the epoch has begun."""
        self._base = entry.version
        self.save()
        self._journal.rotate(entry.epoch, entry.step)
        self._journal.append(entry)
        self._become(manifest, state)
        self._begin_epoch(entry)
        self._seek()
        _logger.warning("rolled back to %s as epoch %d", entry.version, entry.epoch)
        metrics.rollbacks.inc()
        if self._guard:
            self._guard.undone()

    def _begin_epoch(self, entry: Rollback) -> None:
        go_back(self.progress, entry)
        self._parent = self._base = entry.version
        self._publish({}, base=entry.version)

    def _manifest(self, version: str) -> Manifest:
        progress = self.progress
        return Manifest(
            version=version,
            epoch=progress.epoch,
            step=progress.step,
            parent=self._parent,
            created=self._clock.now_ms(),
            code=checkpoints.code_version(),
            examples={str(p): offset for p, offset in progress.examples.items()},
            offsets={str(p): offset for p, offset in progress.offsets.items()},
            skip={str(p): ranges for p, ranges in progress.skip.items()},
            slates={str(p): ranges for p, ranges in progress.slates.items()},
            items=progress.items,
            control=progress.control,
            updates=self._log.end(MODEL_UPDATES, 0),
            watermark=progress.watermark,
            alarm=self._guard.open if self._guard else "",
            refused=self._guard.verdict() if self._guard else "",
            config=self._settings.learn.model_dump(mode="json"),
            metrics=self._meter.values(),
        )


def _positions(progress: Progress) -> dict[int, Position]:
    return {partition: Position(offset) for partition, offset in progress.examples.items()}
