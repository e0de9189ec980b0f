"""The person's own latest items: in a shop a third of the next items are ones already met."""

import numpy as np

from online_models.retrievers.top_k import HIDDEN, Hidden, hide, show
from online_models.state.item_table import People
from online_models.state.workspace import Scratch
from stream.jit import kernel


@kernel
def _again(
    start: np.ndarray, history: np.ndarray, eligible: np.ndarray, hidden_start: np.ndarray, hidden: np.ndarray,
    place: np.ndarray, result: np.ndarray,
) -> None:  # fmt: skip
    for i in range(result.shape[0]):
        hide(hidden[hidden_start[i] : hidden_start[i + 1]], place)
        found = 0
        for h in range(start[i + 1] - 1, start[i] - 1, -1):
            if found == result.shape[1]:
                break
            known = history[h] < 0 or eligible[history[h]] == 0 or place[history[h]] == HIDDEN
            for j in range(found):
                known |= result[i, j] == history[h]
            if not known:
                result[i, found] = history[h]
                found += 1
        show(hidden[hidden_start[i] : hidden_start[i + 1]], place)


def again(people: People, k: int, eligible: np.ndarray, hidden: Hidden, scratch: Scratch) -> np.ndarray:
    """Item rows of each history, (n, k) int32, latest first, -1 where there are no more."""
    result = np.full((people.questions.ts.size, k), -1, np.int32)
    start = people.questions.history_start
    _again(start, people.history, eligible, hidden.start, hidden.row, scratch.place, result)
    return result
