"""Lists that were shown, with what was thought of them then, until it is known what was taken."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from replay.evaluation.baselines import ListScores

MAX_WAIT = 86_400.0  # seconds of event time within which a list that was shown may be answered


@dataclass(slots=True)
class ShownList:
    """A list and the opinions of each model on it, as of when it was shown."""

    ts: int
    user: int
    items: list[int]
    scores: Mapping[str, ListScores]
    clicked: set[int]  # places acted on


class PendingImpressions:
    """Holds each list for `patience` seconds of event time, and gives it back when they have passed."""

    def __init__(self, max_wait: float = MAX_WAIT) -> None:
        self._max_wait_ms = round(max_wait * 1000)
        self._lists: dict[int, ShownList] = {}  # by impression key, in order of showing

    def add(self, impression: int, shown_list: ShownList) -> None:
        self._lists.setdefault(impression, shown_list)

    def record_action(self, impression: int, user: int, item: int) -> None:
        """Someone took an item: it counts if they were shown it in that list."""
        shown_list = self._lists.get(impression)
        if shown_list is not None and shown_list.user == user and item in shown_list.items:
            shown_list.clicked.add(shown_list.items.index(item))

    def get(self, impression: int) -> ShownList | None:
        return self._lists.get(impression)

    def pop_expired(self, ts: int) -> Iterator[ShownList]:
        """Give back the lists that have waited long enough by `ts`, ms."""
        while self._lists:
            impression, shown_list = next(iter(self._lists.items()))
            if shown_list.ts + self._max_wait_ms > ts:
                return
            del self._lists[impression]
            yield shown_list

    def pop_all(self) -> Iterator[ShownList]:
        yield from self._lists.values()
        self._lists.clear()


def slice_scores(scores: ListScores, start: int, end: int) -> ListScores:
    """The opinion on one list out of several."""
    probabilities: np.ndarray | None = None if scores.probabilities is None else scores.probabilities[start:end]
    return ListScores(scores.scores[start:end], probabilities)
