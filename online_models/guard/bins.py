"""What the guard looks at: the rows of each step, added up in bins of event time."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from online_models.model import Stack
from online_models.progressive_predictions import Answered, Closed
from online_models.step_report import StepReport
from online_models.training.step import Lesson
from stream.records.batches import ExampleBatch, Kind

BIN_MS = 60_000  # a bin is at least so long, and
BIN_ROWS = 256  # holds at least so many rows
BUCKETS = 32  # of items, by their key
_AT_ONCE = 4 * BIN_ROWS  # rows that come in one step to whoever catches up
_LAIN = 0.1  # of the slates that are answered, which may have lain for long
_LATE_MS, _LOST_MS = 60_000, 600_000
_SAMPLED, _SAMPLE = 64, 384  # places whose features are looked at, of a step and of a bin
# Multiples of the golden ratio lie evenly, and in step with no length of slates.
_EVENLY = 0.6180339887 * np.arange(1, _SAMPLED + 1) % 1


@dataclass(slots=True)
class Bin:
    """A stretch of the stream."""

    first: dict[int, int]  # offset of its first event, by partition
    start: int  # event time, ms
    end: int = 0
    rows: int = 0
    shown: int = 0
    acted: Counter[tuple[int, int]] = field(default_factory=Counter)  # actions by (surface, type)
    unplaced: int = 0  # slates shown without a surface
    unweighed: int = 0  # slates shown without propensities
    late: int = 0  # events more than a minute behind the latest of their partition
    lost: int = 0  # more than ten minutes behind
    buckets: np.ndarray = field(default_factory=lambda: np.zeros(BUCKETS))  # actions by bucket of items
    places: int = 0  # of which the outcome is known
    loss: float = 0.0
    expected: float = 0.0  # actions on them, as predicted before
    taken: float = 0.0
    steps: int = 0  # that told of them
    answers: int = 0  # to slates, at once
    places_of_answers: float = 0.0  # summed: 1 for what was predicted best, 0 for what was least
    answered: Counter[int] = field(default_factory=Counter)  # items, by their answers
    origins: dict[int, list[int]] = field(default_factory=dict)  # offsets of slates answered, by partition
    names: tuple[str, ...] = ()  # of features
    sample: list[np.ndarray] = field(default_factory=list)  # some of the features that places were shown with
    norms: dict[tuple[str, str], tuple[float, int]] = field(
        default_factory=dict
    )  # squares and number, by kind and part
    updates: int = 0
    skipped: int = 0  # updates that were not finite

    @property
    def actions(self) -> int:
        return self.acted.total()

    @property
    def is_stale(self) -> bool:
        """Whether one long step told all of it: catching up, what it predicts is worse by itself."""
        return self.steps == 1 and self.rows >= _AT_ONCE

    @property
    def answered_from(self) -> dict[int, int]:
        """Offset of the first slate that was answered, by partition, but for a few that lay there for long."""
        shown = {p: int(np.quantile(offsets, _LAIN, method="lower")) for p, offsets in self.origins.items()}
        return self.first | {p: min(offset, self.first.get(p, offset)) for p, offset in shown.items()}


class Watch:
    """Adds up each event once, however often it is learnt."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}  # next offset of the events, by partition
        self._top: dict[int, int] = {}  # latest event time, by partition
        self._bin: Bin | None = None

    def fresh(self, lesson: Lesson) -> np.ndarray:
        """Which rows, (n,) bool, were not seen before."""
        known = np.zeros(int(lesson.partition.max()) + 1, np.int64)
        for partition in np.unique(lesson.partition).tolist():
            known[partition] = self.seen.get(partition, 0)
        fresh: np.ndarray = lesson.batch.offset >= known[lesson.partition]
        return fresh

    @property
    def open_bin(self) -> Bin | None:
        """The bin that is not full yet."""
        return self._bin

    def see(self, lesson: Lesson, fresh: np.ndarray, stack: Stack | None, answers: Answered | None) -> Bin | None:
        """Add the fresh rows; returns the bin that is full with them. `stack`: what has learnt them, if it has."""
        if not fresh.any():
            return None
        batch = lesson.batch
        events = fresh & ((batch.kind == Kind.shown) | (batch.kind == Kind.action))
        now = self._bin = self._bin or Bin(dict(self.seen), int(batch.ts[fresh].min()))
        self._count(now, batch, events)
        self._time(now, lesson, events)
        if answers is not None:
            _count_answers(now, lesson, fresh, answers)
        if stack is not None:
            now.names = stack.feature_names
            _judge(now, batch, fresh, stack.closed)
            _measure(now, stack.report)
        for partition in np.unique(lesson.partition).tolist():
            here = fresh & (lesson.partition == partition)
            if here.any():
                self.seen[partition] = max(self.seen.get(partition, 0), int(batch.offset[here].max()) + 1)
        if now.end - now.start < BIN_MS or now.rows < BIN_ROWS:
            return None
        self._bin = None
        return now

    def _count(self, now: Bin, batch: ExampleBatch, events: np.ndarray) -> None:
        shown, acted = events & (batch.kind == Kind.shown), np.flatnonzero(events & (batch.kind == Kind.action))
        now.rows += int(events.sum())
        now.shown += int(shown.sum())
        now.unplaced += int((batch.questions.surface[shown] == 0).sum())
        now.unweighed += int(np.isnan(batch.lists.propensity[batch.lists.start[:-1][shown]]).sum())
        now.acted.update(zip(batch.questions.surface[acted].tolist(), batch.type[acted].tolist(), strict=True))
        items = batch.lists.item[batch.lists.start[acted]]
        now.buckets += np.bincount((items % np.uint64(BUCKETS)).astype(np.int64), minlength=BUCKETS)

    def _time(self, now: Bin, lesson: Lesson, events: np.ndarray) -> None:
        for partition in np.unique(lesson.partition[events]).tolist():
            ts = lesson.batch.ts[events & (lesson.partition == partition)]
            top = np.maximum(np.maximum.accumulate(ts), self._top.get(partition, 0))
            now.late += int((ts < top - _LATE_MS).sum())
            now.lost += int((ts < top - _LOST_MS).sum())
            now.end = max(now.end, int(top[-1]))
            self._top[partition] = int(top[-1])


def _count_answers(now: Bin, lesson: Lesson, fresh: np.ndarray, answers: Answered) -> None:
    kept = fresh[answers.row]
    rows = answers.row[kept]
    now.answers += rows.size
    now.places_of_answers += float(answers.place[kept].sum())
    now.answered.update(answers.item[kept].tolist())
    for partition, origin in zip(lesson.partition[rows].tolist(), lesson.batch.origin[rows].tolist(), strict=True):
        now.origins.setdefault(partition, []).append(origin)


def _judge(now: Bin, batch: ExampleBatch, fresh: np.ndarray, closed: Closed) -> None:
    """Add what was predicted of the lists that were closed, and what came of them."""
    rows = np.flatnonzero(batch.kind == Kind.closed)
    kept = np.repeat(fresh[rows], np.diff(batch.lists.start)[rows])
    p, y = closed.probability[kept].astype(float), closed.label[kept] > 0
    if p.size == 0:
        return
    p = np.clip(p, 1e-6, 1 - 1e-6)
    _sample(now, closed.features, kept)
    now.places += p.size
    now.steps += 1
    now.loss += float(-np.where(y, np.log(p), np.log1p(-p)).sum())
    now.expected += float(p.sum())
    now.taken += float(y.sum())


def _sample(now: Bin, features: np.ndarray, kept: np.ndarray) -> None:
    """Keep the features of some of the places, all over the lists."""
    rows, free = np.flatnonzero(kept), _SAMPLE - sum(one.shape[0] for one in now.sample)
    some = min(rows.size, _SAMPLED, free)
    if some > 0:
        now.sample.append(features[rows[(rows.size * _EVENLY[:some]).astype(np.int64)]])


def _measure(now: Bin, report: StepReport) -> None:
    """Add how far the step moved what is learnt."""
    now.updates += report.updates
    now.skipped += report.skipped
    for kind, norms in (("gradient_norm", report.gradient_norms), ("update_norm", report.update_norms)):
        for part, (norm, times) in norms.items():
            squares, before = now.norms.get((kind, part), (0.0, 0))
            if times and math.isfinite(norm):
                now.norms[kind, part] = squares + norm * norm * times, before + times
