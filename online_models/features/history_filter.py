"""From when on what people did counts: once tastes have changed, what they did before misleads."""

from dataclasses import replace

import numpy as np

from online_models.control import ExcludeActionsCommand, TruncateHistoryCommand, read_commands_with_offsets
from online_models.features.action_denylist import ActionDenylist
from online_models.state.tables import State
from stream.logs import EventLog
from stream.records.batches import Queries, ragged_starts

NO_TRIAL, FULL_HISTORY = None, 0  # is tried; and all that people ever did


class HistoryFilter:
    """What is said of it by orders to the learner is state: replicas, recovery and replay leave out the same.

    What is tried is none: it is asked about beside, and changes no answer.
    """

    def __init__(self) -> None:
        self._applied_offset = 0  # offset behind the last order that is carried out
        self._read_offset = 0  # offset behind the last order that was looked at
        self.start_ts = self.end_ts = 0  # event times, ms: questions before `until` know nothing from before `since`
        self.denylist = ActionDenylist()  # single actions of whenever
        self.trial_start: int | None = NO_TRIAL  # another `since`, that is compared with this one

    def filter_queries(self, queries: Queries) -> Queries:
        """Questions without the part of each history that does not count."""
        return self._drop_denied(truncate_history(queries, self.start_ts, self.end_ts))

    def filter_for_trial(self, queries: Queries) -> Queries | None:
        """Questions as they would be with what is tried, None if nothing is."""
        return None if self.trial_start is NO_TRIAL else self._drop_denied(truncate_history(queries, self.trial_start))

    def _drop_denied(self, queries: Queries) -> Queries:
        is_denied = self.denylist.mask(queries) if len(self.denylist) else None
        return queries if is_denied is None else _select_history(queries, ~is_denied)

    def is_truncated(self, ts: int) -> bool:
        """Whether anything is left out of a question of that time."""
        return ts < self.end_ts and self.start_ts > 0

    def apply_commands(self, log: EventLog, control: int) -> None:
        """Carry out the orders before an offset, which the journal has of each step: so they are repeated with it."""
        if control <= self._read_offset:
            return
        for offset, command in read_commands_with_offsets(log, self._read_offset, control):
            if isinstance(command, TruncateHistoryCommand):
                self.start_ts, self.end_ts, self._applied_offset = command.start_ts, command.end_ts, offset + 1
            elif isinstance(command, ExcludeActionsCommand):
                self.denylist.exclude(log, command.impressions)
                self._applied_offset = offset + 1
        self._read_offset = control

    def state(self) -> State:
        truncation = {"truncation": np.array([self.start_ts, self.end_ts]), "control": np.array([self._applied_offset])}
        return truncation | self.denylist.state()

    def restore(self, state: State) -> None:
        self.denylist = ActionDenylist()
        self.apply(state)
        self._read_offset = self._applied_offset = (
            int(state["control"][0]) if state else 0
        )  # versions of old say nothing of it

    def changes(self) -> State:
        return {"truncation": np.array([self.start_ts, self.end_ts])} | self.denylist.changes()

    def apply(self, changes: State) -> None:
        self.start_ts, self.end_ts = changes["truncation"].tolist() if changes else (0, 0)
        self.denylist.apply(changes)


def truncate_history(queries: Queries, start_ts: int, end_ts: int = 2**62) -> Queries:
    """Questions whose histories begin at `since`, ms, if they are asked before `until`."""
    if not start_ts:
        return queries
    query_ts = np.repeat(queries.ts, np.diff(queries.history_start))
    mask = (queries.history_ts >= start_ts) | (query_ts >= end_ts)
    return queries if mask.all() else _select_history(queries, mask)


def _select_history(queries: Queries, mask: np.ndarray) -> Queries:
    """Questions with these entries, (h,) bool, of their histories."""
    return replace(
        queries,
        history_start=ragged_starts(mask)[queries.history_start],
        history_item=queries.history_item[mask],
        history_type=queries.history_type[mask],
        history_ts=queries.history_ts[mask],
    )
