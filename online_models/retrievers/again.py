"""The person's own latest items: in a shop a third of the next items are ones already met."""

import numpy as np

from online_models.items import People
from stream.compiled import kernel


@kernel
def _again(start: np.ndarray, history: np.ndarray, eligible: np.ndarray, result: np.ndarray) -> None:
    for i in range(result.shape[0]):
        found = 0
        for h in range(start[i + 1] - 1, start[i] - 1, -1):
            if found == result.shape[1]:
                break
            known = history[h] < 0 or eligible[history[h]] == 0
            for j in range(found):
                known |= result[i, j] == history[h]
            if not known:
                result[i, found] = history[h]
                found += 1


def again(people: People, k: int, eligible: np.ndarray) -> np.ndarray:
    """Item rows of each history, (n, k) int32, latest first, -1 where there are no more."""
    result = np.full((people.questions.ts.size, k), -1, np.int32)
    _again(people.questions.history_start, people.history, eligible, result)
    return result
