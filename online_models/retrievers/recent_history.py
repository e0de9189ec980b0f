"""The person's own latest items: in a shop a third of the next items are ones already met."""

import numpy as np

from online_models.retrievers.top_k import MASKED, Exclusions, mask, unmask
from online_models.state.item_table import UserQueries
from online_models.state.workspace import Workspace
from stream.jit import kernel


@kernel
def _retrieve_recent(
    start: np.ndarray, history: np.ndarray, eligible: np.ndarray, exclusion_start: np.ndarray, exclusions: np.ndarray,
    entry_index: np.ndarray, result: np.ndarray,
) -> None:  # fmt: skip
    for i in range(result.shape[0]):
        mask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)
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
        unmask(exclusions[exclusion_start[i] : exclusion_start[i + 1]], entry_index)


def retrieve_recent(
    users: UserQueries, k: int, eligible: np.ndarray, exclusions: Exclusions, workspace: Workspace
) -> np.ndarray:
    """Item rows of each history, (n, k) int32, latest first, -1 where there are no more."""
    result = np.full((users.queries.ts.size, k), -1, np.int32)
    start = users.queries.history_start
    _retrieve_recent(start, users.history, eligible, exclusions.start, exclusions.row, workspace.entry_index, result)
    return result
