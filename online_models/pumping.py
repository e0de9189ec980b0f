"""Items that are pumped: acted on by accounts that do nothing else, and that were not shown them."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from online_models.lessons import Lesson
from stream.batches import EventType, Kind, flat_runs

_WINDOW_MS = 3_600_000
_AGAIN_MS = 60_000
_ENOUGH = 50  # suspect actions on one item in a window
_ACCOUNTS = 3
_SHARE = 0.8  # of all that is done with the item unshown
_USUAL = 0.5  # share of suspect actions overall above which newcomers are what is usual here
_OTHERS = 2  # actions on other items that make an account one that does something else
_FADE = 0.999  # of the overall share, per action


@dataclass(frozen=True, slots=True)
class Suspect:
    """An action on an item that its account was not shown, of an account that does little else."""

    ts: int
    partition: int
    offset: int
    user: int


@dataclass(slots=True)
class _Item:
    suspects: deque[Suspect]
    others: deque[int]  # times of the other actions that answer no slate
    told: int = 0  # event time, ms


@dataclass(frozen=True, slots=True)
class Pumped:
    """An item and what pumps it."""

    item: int
    suspects: list[Suspect]
    share: float
    usual: float

    @property
    def accounts(self) -> int:
        return len({one.user for one in self.suspects})


class Pumping:
    """Keeps the last hour of actions that answer no slate, by item; an item is told once a minute while it lasts."""

    def __init__(self) -> None:
        self._items: dict[int, _Item] = {}
        self._total = self._suspect = 0.0
        self._top = 0

    def see(self, lesson: Lesson, fresh: np.ndarray) -> list[Pumped]:
        """Items found pumped with these rows."""
        batch = lesson.batch
        acted = np.flatnonzero(fresh & (batch.kind == Kind.action) & batch.organic & (batch.type != EventType.dislike))
        if acted.size == 0:
            return []
        items = batch.lists.item[batch.lists.start[acted]]
        narrow = _others(lesson, acted, items) <= _OTHERS
        faded = _FADE**acted.size
        self._total = faded * self._total + acted.size
        self._suspect = faded * self._suspect + int(narrow.sum())
        columns = items, batch.ts[acted], lesson.partition[acted], batch.offset[acted], batch.questions.user[acted]
        for item, ts, partition, offset, user, suspect in zip(*(c.tolist() for c in (*columns, narrow)), strict=True):
            held = self._items.setdefault(item, _Item(deque(), deque()))
            if suspect:
                held.suspects.append(Suspect(ts, partition, offset, user))
            else:
                held.others.append(ts)
        self._top = max(self._top, int(batch.ts[acted].max()))
        return [pumped for item in set(items[narrow].tolist()) if (pumped := self._pumped(item))]

    def tidy(self) -> None:
        """Forget what is older than the window."""
        for item in list(self._items):
            self._trim(self._items[item])
            if not self._items[item].suspects and not self._items[item].others:
                del self._items[item]

    def _pumped(self, item: int) -> Pumped | None:
        held = self._items[item]
        if len(held.suspects) < _ENOUGH or self._top < held.told + _AGAIN_MS:
            return None
        self._trim(held)
        usual = self._suspect / self._total
        share = len(held.suspects) / max(1, len(held.suspects) + len(held.others))
        pumped = Pumped(item, _dense(list(held.suspects)), share, usual)
        if len(pumped.suspects) < _ENOUGH or share < _SHARE or usual > _USUAL or pumped.accounts < _ACCOUNTS:
            return None
        held.told = self._top
        return pumped

    def _trim(self, held: _Item) -> None:
        while held.suspects and held.suspects[0].ts < self._top - _WINDOW_MS:
            held.suspects.popleft()
        while held.others and held.others[0] < self._top - _WINDOW_MS:
            held.others.popleft()


def _dense(suspects: list[Suspect]) -> list[Suspect]:
    """Those behind the last long pause: who came before a group began is none of it."""
    ts = np.array([one.ts for one in suspects])
    pauses = np.diff(ts)
    if pauses.size == 0:
        return suspects
    long = np.flatnonzero(pauses > 10 * max(1_000.0, float(np.median(pauses))))
    return suspects[int(long[-1]) + 1 :] if long.size else suspects


def _others(lesson: Lesson, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """How many actions on other items each row's person had behind them, (n,) int64."""
    asked = lesson.batch.questions
    flat, start = flat_runs(asked.history_start, rows)
    differs = asked.history_item[flat] != np.repeat(items, np.diff(start))
    total = np.concatenate([[0], np.cumsum(differs)])
    others: np.ndarray = total[start[1:]] - total[start[:-1]]
    return others
