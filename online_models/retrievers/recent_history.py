"""Latest items of the user's own history: in a shop a third of the next items are repeats."""

from dataclasses import dataclass

import numpy as np

from online_models.retrievers.candidates import CandidateFilter, Channel, Exclusions, make_filter
from online_models.retrievers.retriever import Retriever
from online_models.state.item_table import Actions, ItemTable, UserQueries
from online_models.state.workspace import MASKED, Workspace, mask, unmask
from stream.jit import kernel


@dataclass(frozen=True, slots=True)
class RecentHistorySettings:
    max_items: int = 16  # distinct items of a history that are candidates

    def __post_init__(self) -> None:
        if self.max_items < 1:
            raise ValueError(f"max_items must be at least 1, got {self.max_items}")


@kernel
def _retrieve_recent(start: np.ndarray, history: np.ndarray, candidates: CandidateFilter, result: np.ndarray) -> None:
    """Fill `result`, which holds -1, with the distinct items of each history, latest first."""
    eligible, exclusion_start, exclusion, entry_index = candidates
    for i in range(result.shape[0]):
        excluded_rows = exclusion[exclusion_start[i] : exclusion_start[i + 1]]
        mask(excluded_rows, entry_index)
        count = 0
        for h in range(start[i + 1] - 1, start[i] - 1, -1):
            if count == result.shape[1]:
                break
            is_skipped = history[h] < 0 or eligible[history[h]] == 0 or entry_index[history[h]] == MASKED
            for j in range(count):
                is_skipped |= result[i, j] == history[h]
            if not is_skipped:
                result[i, count] = history[h]
                count += 1
        unmask(excluded_rows, entry_index)


class RecentHistoryRetriever(Retriever):
    """Offer the latest items of each history, which comes with the query: nothing to learn."""

    channel = Channel.history

    def __init__(
        self, items: ItemTable, settings: RecentHistorySettings | None = None, workspace: Workspace | None = None
    ) -> None:
        self.settings = settings or RecentHistorySettings()
        self._items, self._workspace = items, workspace or Workspace()

    def learn(self, actions: Actions) -> None:
        return

    def retrieve(
        self, users: UserQueries, k: int, eligible: np.ndarray | None = None, exclusions: Exclusions | None = None
    ) -> np.ndarray:
        """Return item rows, (n, min(k, max_items)) int32, latest first, -1 where there are no more."""
        result = np.full((len(users), min(k, self.settings.max_items)), -1, np.int32)
        candidates = make_filter(self._items, self._workspace, len(users), eligible, exclusions)
        _retrieve_recent(users.queries.history_start, users.history, candidates, result)
        return result
