"""Items that are pumped: acted on by accounts that do little else, and that were not shown them."""

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from online_models.lessons import Lesson
from stream.batches import EventType, Kind, flat_runs

_WINDOW_MS = 3_600_000
_AGAIN_MS = 60_000
_ENOUGH = 50  # suspect actions on one item in a window
_ACCOUNTS = 3
_SHARE = 0.8  # of all that is done with the item unshown
_USUAL = 0.5  # share of suspect actions overall above which newcomers are what is usual here
_OTHERS = 2  # actions on other items that make an account one that does something else, unless
AGAIN = 5  # it has acted so often on this one, and that was
_PART = 0.25  # of all that it did
_REPEATED = 0.5  # share of suspect actions that their account did before: who follows a link does each thing once
_FADE = 0.999  # of the overall share, per action


@dataclass(frozen=True, slots=True)
class Suspect:
    """An action on an item that its account was not shown, of an account that does little else."""

    ts: int
    partition: int
    offset: int
    user: int
    type: int


@dataclass(slots=True)
class _Item:
    """Actions of the last hour that answer no slate, and whose they are."""

    acts: deque[Suspect] = field(default_factory=deque)
    users: Counter[int] = field(default_factory=Counter)
    suspected: set[int] = field(default_factory=set)
    suspects: int = 0  # actions of accounts that do little else
    told: int = 0  # event time, ms

    def add(self, act: Suspect, suspect: bool) -> None:
        self.acts.append(act)
        self.users[act.user] += 1
        if act.user in self.suspected:
            self.suspects += 1
        elif suspect:
            self.suspected.add(act.user)
            self.suspects += self.users[act.user]

    def trim(self, since: int) -> None:
        """Forget what was before a time, ms."""
        while self.acts and self.acts[0].ts < since:
            user = self.acts.popleft().user
            self.users[user] -= 1
            self.suspects -= user in self.suspected
            if not self.users[user]:
                del self.users[user]
                self.suspected.discard(user)


@dataclass(frozen=True, slots=True)
class Pumped:
    """An item and what pumps it."""

    item: int
    suspects: list[Suspect]
    besides: list[Suspect]  # what the same accounts did with other items meanwhile
    share: float
    usual: float

    @property
    def accounts(self) -> int:
        return len(_accounts(self.suspects))


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
        narrow = _is_narrow(lesson, acted, items)
        faded = _FADE**acted.size
        self._total = faded * self._total + acted.size
        self._suspect = faded * self._suspect + int(narrow.sum())
        place = lesson.partition[acted], batch.offset[acted]
        columns = narrow, items, batch.ts[acted], *place, batch.questions.user[acted], batch.type[acted]
        for suspect, item, *act in zip(*(column.tolist() for column in columns), strict=True):
            self._items.setdefault(item, _Item()).add(Suspect(*act), suspect)
        self._top = max(self._top, int(batch.ts[acted].max()))
        return [pumped for item in set(items[narrow].tolist()) if (pumped := self._pumped(item))]

    def tidy(self) -> None:
        """Forget what is older than the window."""
        for item in list(self._items):
            self._items[item].trim(self._top - _WINDOW_MS)
            if not self._items[item].acts:
                del self._items[item]

    def _pumped(self, item: int) -> Pumped | None:
        held = self._items[item]
        if self._top < held.told + _AGAIN_MS or held.suspects < _ENOUGH:
            return None
        held.trim(self._top - _WINDOW_MS)
        usual = self._suspect / self._total
        share = held.suspects / max(1, len(held.acts))
        if share < _SHARE or usual > _USUAL:
            return None
        suspects = _dense([one for one in held.acts if one.user in held.suspected])
        if len(suspects) < _ENOUGH or _repeated(suspects) < _REPEATED or len(_accounts(suspects)) < _ACCOUNTS:
            return None
        held.told = self._top
        return Pumped(item, suspects, self._besides(item, suspects), share, usual)

    def _besides(self, item: int, suspects: list[Suspect]) -> list[Suspect]:
        """What a group did with other items since it began: it looks like anybody's, and is as little meant."""
        group, since = _accounts(suspects), min(one.ts for one in suspects)
        others = (held for other, held in self._items.items() if other != item and not group.isdisjoint(held.users))
        return [act for held in others for act in held.acts if act.user in group and act.ts >= since]


def _dense(suspects: list[Suspect]) -> list[Suspect]:
    """Those behind the last long pause: who came before a group began is none of it."""
    ts = np.array([one.ts for one in suspects])
    pauses = np.diff(ts)
    if pauses.size == 0:
        return suspects
    long = np.flatnonzero(pauses > 10 * max(1_000.0, float(np.median(pauses))))
    return suspects[int(long[-1]) + 1 :] if long.size else suspects


def _accounts(suspects: list[Suspect]) -> set[int]:
    return {one.user for one in suspects}


def _repeated(suspects: list[Suspect]) -> float:
    """Share of actions that their account had done with the item before."""
    return 1 - len({(one.user, one.type) for one in suspects}) / max(1, len(suspects))


def _is_narrow(lesson: Lesson, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Whether each row's person had done little before but what they do now, (n,) bool."""
    asked = lesson.batch.questions
    flat, start = flat_runs(asked.history_start, rows)
    differs = asked.history_item[flat] != np.repeat(items, np.diff(start))
    total = np.concatenate([[0], np.cumsum(differs)])
    others = total[start[1:]] - total[start[:-1]]
    again = np.diff(start) - others
    narrow: np.ndarray = (others <= _OTHERS) | ((again >= AGAIN) & (again >= _PART * np.diff(start)))
    return narrow
