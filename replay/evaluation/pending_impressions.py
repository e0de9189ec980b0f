"""Lists that were shown, with what was thought of them then, until it is known what was taken."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from replay.evaluation.baselines import Opinion

PATIENCE = 86_400.0  # seconds of event time within which a list that was shown may be answered


@dataclass(slots=True)
class Shown:
    """A list and the opinions of each model on it, as of when it was shown."""

    ts: int
    user: int
    items: list[int]
    opinions: Mapping[str, Opinion]
    taken: set[int]  # places acted on


class Waiting:
    """Holds each list for `patience` seconds of event time, and gives it back when they have passed."""

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience_ms = round(patience * 1000)
        self._lists: dict[int, Shown] = {}  # by impression key, in order of showing

    def show(self, impression: int, shown: Shown) -> None:
        self._lists.setdefault(impression, shown)

    def act(self, impression: int, user: int, item: int) -> None:
        """Someone took an item: it counts if they were shown it in that list."""
        shown = self._lists.get(impression)
        if shown is not None and shown.user == user and item in shown.items:
            shown.taken.add(shown.items.index(item))

    def get(self, impression: int) -> Shown | None:
        return self._lists.get(impression)

    def leave(self, ts: int) -> Iterator[Shown]:
        """Give back the lists that have waited long enough by `ts`, ms."""
        while self._lists:
            impression, shown = next(iter(self._lists.items()))
            if shown.ts + self._patience_ms > ts:
                return
            del self._lists[impression]
            yield shown

    def leave_all(self) -> Iterator[Shown]:
        yield from self._lists.values()
        self._lists.clear()


def part_of(opinion: Opinion, start: int, end: int) -> Opinion:
    """The opinion on one list out of several."""
    chances: np.ndarray | None = None if opinion.chances is None else opinion.chances[start:end]
    return Opinion(opinion.scores[start:end], chances)
