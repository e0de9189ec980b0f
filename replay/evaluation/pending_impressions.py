"""Impressions that wait for their clicks, with the scores from the time they were shown."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from replay.evaluation.baselines.shown_lists import ListScores

MAX_WAIT = 86_400.0  # seconds of event time in which clicks on an impression count


@dataclass(slots=True)
class ShownList:
    """An impression with the scores of each model at the time it was shown."""

    ts: int
    user: int
    items: list[int]
    scores: Mapping[str, ListScores]
    clicked: set[int]  # positions with an action


class PendingImpressions:
    """Keep each impression for `max_wait` seconds of event time, then return it."""

    def __init__(self, max_wait: float = MAX_WAIT) -> None:
        self._max_wait_ms = round(max_wait * 1000)
        self._lists: dict[int, ShownList] = {}  # by impression key, in order of showing

    def add(self, impression: int, shown_list: ShownList) -> None:
        self._lists.setdefault(impression, shown_list)

    def record_action(self, impression: int, user: int, item: int) -> None:
        """Record an action; it counts only if this user was shown the item in this impression."""
        shown_list = self._lists.get(impression)
        if shown_list is not None and shown_list.user == user and item in shown_list.items:
            shown_list.clicked.add(shown_list.items.index(item))

    def get(self, impression: int) -> ShownList | None:
        return self._lists.get(impression)

    def pop_expired(self, ts: int) -> Iterator[ShownList]:
        """Remove and yield the impressions whose wait ends by `ts`, ms."""
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
    """Scores of the list at [start, end) of several lists."""
    probabilities: np.ndarray | None = None if scores.probabilities is None else scores.probabilities[start:end]
    return ListScores(scores.scores[start:end], probabilities)
