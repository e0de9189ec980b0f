"""Test, then learn: each micro-batch is judged with the state before it, and only then learnt."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from replay.evaluation.baselines import (
    AsListed,
    Cooccurrence,
    FadingClickRate,
    FadingClicks,
    FadingPopular,
    Opinion,
    Popular,
    Seen,
    Standing,
    interest,
    items_of,
)
from replay.evaluation.live_pipeline import Pipeline
from replay.evaluation.pending_impressions import PATIENCE, Shown, Waiting, part_of
from replay.evaluation.ranking_metrics import Ordered, Outcomes, Targets
from stream.records.batches import ExampleBatch, Kind
from stream.worker.joiner import POSITIVE


class Learner(Protocol):
    def learn(self, batch: ExampleBatch) -> None:
        """Learn a micro-batch that has been judged."""
        ...


class Picker(Learner, Protocol):
    """Finds items for a person."""

    def pick(self, batch: ExampleBatch, i: int, hidden: np.ndarray, target: int) -> Standing:
        """Answer the question of row i without the hidden items, (n,) keys, and say where the target stands."""
        ...


class Orderer(Learner, Protocol):
    """Has an opinion on lists that are shown."""

    def order(self, batch: ExampleBatch, rows: np.ndarray) -> Opinion:
        """Judge the lists of the rows, one below the other; `batch` holds nothing of what came of them."""
        ...


@dataclass(frozen=True, slots=True)
class Judging:
    """What is judged, and how."""

    k: int = 10
    repeats: bool = False  # items that a person has met may be recommended again
    judge_from: int = 0  # events that teach before judging begins
    judge_every: int = 1  # of the actions, every so many; lists, which cost little, are all judged

    def __post_init__(self) -> None:
        if self.k < 1 or self.judge_every < 1 or self.judge_from < 0:
            raise ValueError(f"k and judge_every must be ≥ 1 and judge_from ≥ 0, got {self}")


@dataclass(slots=True)
class Board:
    """How one model has done so far."""

    k: int
    seconds: float = 0.0
    targets: Targets = field(init=False)
    returning: Targets = field(init=False)  # of people who had done something before
    ordered: Ordered = field(default_factory=Ordered)
    outcomes: Outcomes = field(default_factory=Outcomes)
    recommended: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.targets, self.returning = Targets(self.k), Targets(self.k)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds += time.perf_counter() - started


@dataclass(slots=True)
class Tally:
    """What was judged."""

    events: int = 0
    impressions: int = 0
    actions: int = 0
    unseen: int = 0  # judged targets that no event had named before: a miss for everybody
    met: int = 0  # judged targets that the person had met: a miss for everybody, unless repeats are allowed
    last_ts: int = 0


class Progressive:
    """Runs the pipeline and the baselines side by side over one stream of events."""

    def __init__(self, pipeline: Pipeline, judging: Judging) -> None:
        self._pipeline = pipeline
        self._judging = judging
        self._seen = seen = Seen()
        k = judging.k
        self.pickers: dict[str, Picker] = {
            "headrace": pipeline,
            "popular": Popular(seen, k),
            "fading_popular": FadingPopular(seen, k),
            "cooccurrence": Cooccurrence(seen, k),
        }
        self.orderers: dict[str, Orderer] = {
            "headrace": pipeline,
            "as_listed": AsListed(),
            "fading_clicks": FadingClicks(seen),
            "fading_click_rate": FadingClickRate(seen),
        }
        self._learners: dict[str, Learner] = {**self.pickers, **self.orderers}
        self.boards = {name: Board(k) for name in self._learners}
        self.tally = Tally()
        self._met: dict[int, set[int]] = {}  # keys of the items that a person acted on
        self._waiting = Waiting(PATIENCE)
        self._due = 0  # actions that could be judged so far

    def step(self, lines: Sequence[bytes]) -> None:
        """Test, then learn one micro-batch."""
        with self.boards["headrace"].at_work():
            batch = self._pipeline.stream(lines)
        if batch is None:
            return
        self._judge_lists(batch)
        self._judge_actions(batch)
        self._note_outcomes(batch)
        self._learn(batch)

    def finish(self) -> None:
        """Judge the lists that still wait; nothing more will come."""
        for shown in self._waiting.leave_all():
            self._judge_list(shown)

    def values(self) -> dict[str, dict[str, float | int | None]]:
        """Every measure of every model that had something to say."""
        told = self.boards if self.tally.impressions else {name: self.boards[name] for name in self.pickers}
        return {name: self._values(name, board) for name, board in told.items()}

    def _judge_lists(self, batch: ExampleBatch) -> None:
        """Note what each model thinks of the lists shown, before anything of this batch is learnt."""
        shown = np.flatnonzero(batch.kind == Kind.shown)
        self.tally.impressions += shown.size
        rows = shown[batch.offset[shown] >= self._judging.judge_from]
        if rows.size == 0:
            return
        opinions = {}
        for name, orderer in self.orderers.items():
            with self.boards[name].at_work():
                opinions[name] = orderer.order(batch, rows)
        lists = batch.lists.take(rows)
        for i, row in enumerate(rows.tolist()):
            run = int(lists.start[i]), int(lists.start[i + 1])
            thought = {name: part_of(opinion, *run) for name, opinion in opinions.items()}
            items = lists.item[slice(*run)].tolist()
            user = int(batch.questions.user[row])
            self._waiting.show(int(batch.impression[row]), Shown(int(batch.ts[row]), user, items, thought, set()))

    def _judge_actions(self, batch: ExampleBatch) -> None:
        rows = interest(batch)
        self.tally.events += int(((batch.kind == Kind.shown) | (batch.kind == Kind.action)).sum())
        for row, target in zip(rows.tolist(), items_of(batch, rows).tolist(), strict=True):
            met = self._met.setdefault(int(batch.questions.user[row]), set())
            if batch.offset[row] >= self._judging.judge_from and self._is_chosen():
                self._judge_action(batch, row, target, met)
            met.add(target)

    def _judge_action(self, batch: ExampleBatch, row: int, target: int, met: set[int]) -> None:
        tally = self.tally
        tally.actions += 1
        tally.unseen += int(self._seen.find(np.array([target], np.uint64))[0] < 0)
        tally.met += target in met
        hidden = np.array([] if self._judging.repeats else sorted(met), np.uint64)
        for name, picker in self.pickers.items():
            board = self.boards[name]
            with board.at_work():
                found = picker.pick(batch, row, hidden, target)
            board.recommended.update(found.top.tolist())
            for targets in (board.targets, board.returning) if met else (board.targets,):
                targets.see(found.place)

    def _note_outcomes(self, batch: ExampleBatch) -> None:
        answers = (batch.kind == Kind.action) & (batch.impression != 0) & np.isin(batch.type, POSITIVE)
        for row in np.flatnonzero(answers).tolist():
            item = int(batch.lists.item[batch.lists.start[row]])
            self._waiting.act(int(batch.impression[row]), int(batch.questions.user[row]), item)
        for row in np.flatnonzero(batch.kind == Kind.closed).tolist():
            shown = self._waiting.get(int(batch.impression[row]))
            labels = batch.lists.label[batch.lists.start[row] : batch.lists.start[row + 1]]
            if shown is not None and len(shown.items) == labels.size:
                for name, opinion in shown.opinions.items():
                    self.boards[name].outcomes.see(opinion.scores, opinion.chances, labels)
        self.tally.last_ts = max(self.tally.last_ts, int(batch.ts.max()))
        for shown in self._waiting.leave(self.tally.last_ts):
            self._judge_list(shown)

    def _judge_list(self, shown: Shown) -> None:
        if len(shown.taken) == 1 and len(shown.items) > 1:
            for name, opinion in shown.opinions.items():
                self.boards[name].ordered.see(opinion.scores, min(shown.taken))

    def _learn(self, batch: ExampleBatch) -> None:
        self._seen.admit(batch.lists.item)
        for name, learner in self._learners.items():
            with self.boards[name].at_work():
                learner.learn(batch)

    def _is_chosen(self) -> bool:
        self._due += 1
        return (self._due - 1) % self._judging.judge_every == 0

    def _values(self, name: str, board: Board) -> dict[str, float | int | None]:
        picks = name in self.pickers
        returning = board.returning.values()
        return {
            **board.targets.values(),
            "coverage": len(board.recommended) / len(self._seen) if picks and len(self._seen) else None,
            **board.outcomes.values(),
            **board.ordered.values(),
            "returning_recall": returning["recall"],
            "returning_mrr": returning["mrr"],
            "events_per_second": round(self.tally.events / board.seconds, 1) if board.seconds else None,
            "judged": board.targets.judged,
            "judged_returning": board.returning.judged,
            "judged_impressions": board.ordered.judged,
        }
