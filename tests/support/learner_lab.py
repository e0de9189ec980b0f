"""A learner that tests step by hand, with commands at given steps and crashes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from online_models.control import encode_command
from online_models.features.history_filter import NO_TRIAL
from online_models.model import RecommenderModel
from online_models.state.tables import State
from online_models.step_result import StepResult
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.progress import Progress
from online_models.training.rollback import progress_after_rollback
from online_models.training.step import apply_step, read_blocks
from online_models.worker import LearnWorker
from stream.clock import DAY_MS
from stream.config import DataSettings, EventsSettings, LearnSettings, LogSettings, Settings, StreamSettings
from stream.logs import Record
from stream.records.catalog import Item
from stream.testing import Crashed, ManualClock, memory_system
from stream.topics import CONTROL, EVENTS, EXAMPLES, ITEMS, create_topics
from stream.worker.worker import StreamWorker
from tests.support.events import START, EventGenerator
from tests.support.faults import CrashingLog, CrashInjector

PARTITIONS = 2
NOW = START + 365 * DAY_MS
Bits = dict[str, tuple[str, tuple[int, ...], bytes]]


def make_settings(folder: Path, **learn: float | str) -> Settings:
    return Settings(
        data=DataSettings(folder=folder),
        log=LogSettings(partitions=PARTITIONS),
        events=EventsSettings(max_age=0),
        stream=StreamSettings(batch=24, attribution_window=60, allowed_lateness=4),
        learn=LearnSettings(**{"batch": 512, "checkpoint_every": 1e9} | learn),
    )


def make_blocks(count: int = 400) -> dict[int, list[Record]]:
    """Example blocks by partition, made by a stream worker from generated events."""
    log, store, _ = memory_system(partitions=PARTITIONS, clock=ManualClock(NOW))
    for partition, records in EventGenerator(seed=3, partitions=PARTITIONS).generate_records(count).items():
        log.append(EVENTS, partition, records)
    worker = StreamWorker(log, store, make_settings(Path()))
    worker.step(0)
    while worker.step(0):
        pass
    return {p: [(None, value) for value in log.read(EXAMPLES, p, 0, 1_000).values if value] for p in range(PARTITIONS)}


class Lab:
    """A log and a folder that outlive their learners; `commands`: sent at an (epoch, step)."""

    def __init__(
        self,
        folder: Path,
        blocks: Mapping[int, Sequence[Record]],
        commands: Mapping[tuple[int, int], Any] | None = None,
        fuse: CrashInjector | None = None,
        **learn: float | str,
    ) -> None:
        self.settings = make_settings(folder, **learn)
        self.clock = ManualClock(NOW)
        self.log = CrashingLog(fuse or CrashInjector(), NOW)
        create_topics(self.log, PARTITIONS)
        items = [Item(f"i{n}", categories=[f"c{n % 4}"], created_ts=START, price=float(n)) for n in range(12)]
        self.log.write(ITEMS, 0, *[(item.item_id.encode(), msgspec.json.encode(item)) for item in items])
        for partition, records in blocks.items():
            self.log.write(EXAMPLES, partition, *records)
        self.commands = dict(commands or {})
        self.crashes = 0
        self.worker: LearnWorker | None = None

    def start(self) -> LearnWorker:
        self.worker = self.worker or LearnWorker(self.log, self.settings, self.clock)
        return self.worker

    def die(self) -> None:
        if self.worker:
            self.worker.wait_for_checkpoint()
        self.log.leave(EXAMPLES, "learn")
        self.worker = None

    def step(self) -> bool:
        """Send the command that is due, then step; return False if there was nothing to do."""
        worker = self.start()
        command = self.commands.pop((worker.progress.epoch, worker.progress.step), None)
        if command:
            self.log.write(CONTROL, 0, (None, encode_command(command)))
        before = worker.progress.epoch, worker.progress.step, worker.progress.control_offset
        worker.step(timeout=0)
        return (worker.progress.epoch, worker.progress.step, worker.progress.control_offset) != before

    def finish(self) -> "Lab":
        """Step until nothing is left; restart the learner after each crash."""
        while True:
            try:
                if not self.step():
                    return self
            except Crashed:
                self.crashes += 1
                self.die()

    @property
    def bits(self) -> Bits:
        return read_bits(self.start().model.state())


def read_bits(state: State) -> Bits:
    return {
        name: (array.dtype.str, array.shape, np.ascontiguousarray(array).tobytes()) for name, array in state.items()
    }


def find_differences(left: Bits, right: Bits) -> list[str]:
    """Names of the arrays whose bits differ."""
    return sorted(name for name in left.keys() | right.keys() if left.get(name) != right.get(name))


def replay_journal(
    lab: Lab, epoch: int, step: int, trial_start: int | None = NO_TRIAL
) -> tuple[RecommenderModel, list[StepResult]]:
    """Model and results of a learner that replays the whole journal in one life."""
    folder = lab.settings.checkpoints / "journal"
    model, progress, results = RecommenderModel(), Progress(), []
    for entry in journal.read_entries_after(folder, journal.epoch_path(folder, epoch, step), 1, 0):
        if isinstance(entry, Rollback):
            progress = progress_after_rollback(progress, entry)
            continue
        blocks = list(read_blocks(lab.log, entry.ranges))
        results += apply_step(lab.log, model, progress, entry, blocks, trial_start)[0]
    return model, results


def replay_bits(lab: Lab, epoch: int, step: int) -> Bits:
    """State of a learner that replays the whole journal in one life."""
    return read_bits(replay_journal(lab, epoch, step)[0].state())
