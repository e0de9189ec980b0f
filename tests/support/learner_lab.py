"""A learner that is stepped by hand, with orders at chosen steps, and started anew whenever it dies."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from online_models.control import Command, encode_command
from online_models.model import RecommenderModel
from online_models.state.tables import State
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.rollback import apply_rollback
from online_models.training.step import Progress, apply_step, read_blocks
from online_models.worker import LearnWorker
from stream.config import DataSettings, EventsSettings, LearnSettings, LogSettings, Settings, StreamSettings
from stream.logs import Record
from stream.records.catalog import Item
from stream.testing import Crashed, ManualClock, MemoryLog, MemoryStore
from stream.topics import (
    ALARMS,
    CONTROL,
    DEAD_LETTER,
    EVENTS,
    EXAMPLES,
    ITEMS,
    MODEL_UPDATES,
    QUARANTINE,
    USERS,
)
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator
from tests.support.faults import CrashingLog, CrashInjector

PARTITIONS = 2
NOW = START + 365 * 86_400_000
Bits = dict[str, tuple[str, tuple[int, ...], bytes]]


def settings_of(folder: Path, **learn: float) -> Settings:
    return Settings(
        data=DataSettings(folder=folder),
        log=LogSettings(partitions=PARTITIONS),
        events=EventsSettings(max_age=0),
        stream=StreamSettings(batch=24, attribution_window=60, allowed_lateness=4),
        learn=LearnSettings(**{"batch": 512, "checkpoint_every": 1e9} | learn),
    )


def lessons(count: int = 400) -> dict[int, list[Record]]:
    """Blocks of examples by partition, as a stream worker makes them out of generated events."""
    log = MemoryLog(clock=ManualClock(NOW))
    for topic in (EVENTS, EXAMPLES, USERS):
        log.create(topic, PARTITIONS)
    for topic in (DEAD_LETTER, QUARANTINE, ALARMS):
        log.create(topic, 1)
    for partition, records in EventGenerator(seed=3, partitions=PARTITIONS).generate_records(count).items():
        log.append(EVENTS, partition, records)
    worker = StreamWorker(log, MemoryStore(), settings_of(Path()))
    worker.step(0)
    while worker.step(0):
        pass
    return {p: [(None, value) for value in log.read(EXAMPLES, p, 0, 1_000).values if value] for p in range(PARTITIONS)}


class Lab:
    """A log and a folder that outlive the learners on them. `orders`: given when a (epoch, step) has been reached."""

    def __init__(
        self,
        folder: Path,
        blocks: Mapping[int, Sequence[Record]],
        orders: Mapping[tuple[int, int], Command] | None = None,
        fuse: CrashInjector | None = None,
        **learn: float,
    ) -> None:
        self.settings = settings_of(folder, **learn)
        self.clock = ManualClock(NOW)
        self.log = CrashingLog(fuse or CrashInjector(), NOW)
        self.log.create(EXAMPLES, PARTITIONS)
        for topic in (ITEMS, MODEL_UPDATES, CONTROL, ALARMS):
            self.log.create(topic, 1)
        items = [Item(f"i{n}", categories=[f"c{n % 4}"], created_ts=START, price=float(n)) for n in range(12)]
        self.log.write(ITEMS, 0, *[(item.item_id.encode(), msgspec.json.encode(item)) for item in items])
        for partition, records in blocks.items():
            self.log.write(EXAMPLES, partition, *records)
        self.orders = dict(orders or {})
        self.crashes = 0
        self.worker: LearnWorker | None = None

    def start(self) -> LearnWorker:
        self.worker = self.worker or LearnWorker(self.log, self.settings, self.clock)
        return self.worker

    def die(self) -> None:
        if self.worker:
            self.worker._checkpoint_writer.wait()
        self.log.leave(EXAMPLES, "learn")
        self.worker = None

    def step(self) -> bool:
        """Give the order that is due, and step; False when there was nothing to do."""
        worker = self.start()
        order = self.orders.pop((worker.progress.epoch, worker.progress.step), None)
        if order:
            self.log.write(CONTROL, 0, (None, encode_command(order)))
        before = worker.progress.epoch, worker.progress.step, worker.progress.control_offset
        worker.step(timeout=0)
        return (worker.progress.epoch, worker.progress.step, worker.progress.control_offset) != before

    def finish(self) -> "Lab":
        """Step until nothing is left, with a new learner whenever one dies."""
        while True:
            try:
                if not self.step():
                    return self
            except Crashed:
                self.crashes += 1
                self.die()

    @property
    def bits(self) -> Bits:
        return bits_of(self.start().model.state())


def bits_of(state: State) -> Bits:
    return {
        name: (array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()) for name, array in state.items()
    }


def differing(one: Bits, other: Bits) -> list[str]:
    """Names of the arrays whose bits are not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def followed(lab: Lab, epoch: int, step: int) -> Bits:
    """The state of a learner that takes the steps of the journal one after the other, and never died."""
    folder = lab.settings.checkpoints / "journal"
    stack, progress = RecommenderModel(), Progress()
    for entry in journal.read_entries_after(folder, journal.epoch_path(folder, epoch, step), 1, 0):
        if isinstance(entry, Rollback):
            apply_rollback(progress, entry)
        else:
            apply_step(lab.log, stack, progress, entry, list(read_blocks(lab.log, entry.ranges)))
    return bits_of(stack.state())
