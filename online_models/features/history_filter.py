"""From when on what people did counts: once tastes have changed, what they did before misleads."""

from dataclasses import replace

import numpy as np

from online_models.control import ForgetOrder, StrikeOrder, orders_from
from online_models.features.action_denylist import Struck
from online_models.state.tables import State
from stream.logs import EventLog
from stream.records.batches import Questions, offsets_of

NOTHING, WHOLE = None, 0  # is tried; and all that people ever did


class Past:
    """What is said of it by orders to the learner is state: replicas, recovery and replay leave out the same.

    What is tried is none: it is asked about beside, and changes no answer.
    """

    def __init__(self) -> None:
        self._control = 0  # offset behind the last order that is carried out
        self._read = 0  # offset behind the last order that was looked at
        self.since = self.until = 0  # event times, ms: questions before `until` know nothing from before `since`
        self.struck = Struck()  # single actions of whenever
        self.trial: int | None = NOTHING  # another `since`, that is compared with this one

    def of(self, questions: Questions) -> Questions:
        """Questions without the part of each history that does not count."""
        return self._unstruck(lately(questions, self.since, self.until))

    def tried(self, questions: Questions) -> Questions | None:
        """Questions as they would be with what is tried, None if nothing is."""
        return None if self.trial is NOTHING else self._unstruck(lately(questions, self.trial))

    def _unstruck(self, questions: Questions) -> Questions:
        struck = self.struck.among(questions) if len(self.struck) else None
        return questions if struck is None else _keeping(questions, ~struck)

    def is_cut(self, ts: int) -> bool:
        """Whether anything is left out of a question of that time."""
        return ts < self.until and self.since > 0

    def follow(self, log: EventLog, control: int) -> None:
        """Carry out the orders before an offset, which the journal has of each step: so they are repeated with it."""
        if control <= self._read:
            return
        for offset, order in orders_from(log, self._read, control):
            if isinstance(order, ForgetOrder):
                self.since, self.until, self._control = order.since, order.until, offset + 1
            elif isinstance(order, StrikeOrder):
                self.struck.strike(log, order.slates)
                self._control = offset + 1
        self._read = control

    def state(self) -> State:
        left_out = {"left_out": np.array([self.since, self.until]), "control": np.array([self._control])}
        return left_out | self.struck.state()

    def restore(self, state: State) -> None:
        self.struck = Struck()
        self.apply(state)
        self._read = self._control = int(state["control"][0]) if state else 0  # versions of old say nothing of it

    def changes(self) -> State:
        return {"left_out": np.array([self.since, self.until])} | self.struck.changes()

    def apply(self, changes: State) -> None:
        self.since, self.until = changes["left_out"].tolist() if changes else (0, 0)
        self.struck.apply(changes)


def lately(questions: Questions, since: int, until: int = 2**62) -> Questions:
    """Questions whose histories begin at `since`, ms, if they are asked before `until`."""
    if not since:
        return questions
    asked = np.repeat(questions.ts, np.diff(questions.history_start))
    kept = (questions.history_ts >= since) | (asked >= until)
    return questions if kept.all() else _keeping(questions, kept)


def _keeping(questions: Questions, kept: np.ndarray) -> Questions:
    """Questions with these entries, (h,) bool, of their histories."""
    return replace(
        questions,
        history_start=offsets_of(kept)[questions.history_start],
        history_item=questions.history_item[kept],
        history_type=questions.history_type[kept],
        history_ts=questions.history_ts[kept],
    )
