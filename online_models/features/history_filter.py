"""Drop misleading history entries: those before a preference shift, and denied actions."""

from dataclasses import dataclass

import numpy as np

from online_models.control import ExcludeActionsCommand, TruncateHistoryCommand, read_commands_with_offsets
from online_models.features.action_denylist import ActionDenylist
from online_models.state.tables import State
from stream.logs import EventLog
from stream.records.batches import Queries

NO_TRIAL, FULL_HISTORY = None, 0  # values of a trial start: try nothing; try the full history


@dataclass(frozen=True, slots=True)
class HistoryTruncation:
    """Drop entries from before `start_ts` in queries from before `end_ts`; event times, ms."""

    start_ts: int = 0  # 0: keep all entries
    end_ts: int = 0

    def is_active(self, ts: int) -> bool:
        """Return True if queries at this time lose history entries."""
        return ts < self.end_ts and self.start_ts > 0

    def mask(self, queries: Queries) -> np.ndarray:
        """Return the mask of dropped history entries, (h,) bool."""
        query_ts = np.repeat(queries.ts, np.diff(queries.history_start))
        is_dropped: np.ndarray = (queries.history_ts < self.start_ts) & (query_ts < self.end_ts)
        return is_dropped


class HistoryFilter:
    """Apply the truncation and the denylist that commands to the learner set.

    Both are state, so that replicas, recovery and replay leave out the same entries. A trial
    truncation is an argument of one step, and changes no response.
    """

    def __init__(self) -> None:
        self._applied_offset = 0  # behind the last command that was applied
        self._read_offset = 0  # behind the last command that was read
        self.truncation = HistoryTruncation()
        self.denylist = ActionDenylist()

    def filter_queries(self, queries: Queries) -> Queries:
        """Drop the history entries that do not count."""
        return self._drop(queries, self.truncation)

    def filter_for_trial(self, queries: Queries, trial_start: int) -> Queries:
        """Drop the history entries that do not count if all histories start at `trial_start`, ms."""
        return self._drop(queries, HistoryTruncation(trial_start, end_ts=2**62))

    def _drop(self, queries: Queries, truncation: HistoryTruncation) -> Queries:
        masks = [truncation.mask(queries)] if truncation.start_ts else []
        masks += [self.denylist.mask(queries)] if len(self.denylist) else []
        return queries.drop_history(np.logical_or.reduce(masks)) if masks else queries

    def apply_commands(self, log: EventLog, end_offset: int) -> None:
        """Apply the commands before an offset, which the journal holds, so that replay repeats them."""
        if end_offset <= self._read_offset:
            return
        for offset, command in read_commands_with_offsets(log, self._read_offset, end_offset):
            if isinstance(command, TruncateHistoryCommand):
                self.truncation = HistoryTruncation(command.start_ts, command.end_ts)
                self._applied_offset = offset + 1
            elif isinstance(command, ExcludeActionsCommand):
                self.denylist.exclude(log, command.impressions)
                self._applied_offset = offset + 1
        self._read_offset = end_offset

    def state(self) -> State:
        return self._truncation_state() | {"control": np.array([self._applied_offset])} | self.denylist.state()

    def restore(self, state: State) -> None:
        self.denylist = ActionDenylist()
        self.apply(state)
        self._read_offset = self._applied_offset = int(state["control"][0])

    def changes(self) -> State:
        return self._truncation_state() | self.denylist.changes()

    def apply(self, changes: State) -> None:
        self.truncation = HistoryTruncation(*changes["truncation"].tolist())
        self.denylist.apply(changes)

    def _truncation_state(self) -> State:
        return {"truncation": np.array([self.truncation.start_ts, self.truncation.end_ts])}
