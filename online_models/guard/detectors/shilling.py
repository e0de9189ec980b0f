"""Items that are pumped: acted on by accounts that do little else, and that were not shown them."""

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from online_models.training.step import Lesson
from stream.jit import kernel
from stream.records.batches import EventType, Kind

_WINDOW_MS = 3_600_000
_AGAIN_MS = 60_000
_SHARE = 0.8  # of all that is done with the item unshown
_USUAL = 0.5  # share of suspect actions overall above which newcomers are what is usual here
_OTHERS = 2  # actions on other items that make an account one that does something else, unless
AGAIN = 5  # it has acted so often on this one, and that was
_PART = 0.25  # of all that it did; or
_BUSY = 10  # it has done so much, and
_AS_BEFORE = 0.5  # of that what it had done with the same item before
_REPEATED = 0.5  # share of suspect actions that their account did before: who follows a link does each thing once
_FADE = 0.999  # of the overall share, per action


@dataclass(frozen=True, slots=True)
class _Least:
    """What makes a group: suspect actions on one item in a window, and accounts."""

    acts: int
    accounts: int


_GROUP, _STRAGGLERS = _Least(50, 3), _Least(10, 1)  # the second, where a group was found within the window


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
        again = self._top < held.told + _WINDOW_MS
        least = _STRAGGLERS if again else _GROUP
        if self._top < held.told + _AGAIN_MS or held.suspects < least.acts:
            return None
        held.trim(self._top - _WINDOW_MS)
        usual = self._suspect / self._total
        acts = [one for one in held.acts if one.ts > held.told]
        suspects = [one for one in acts if one.user in held.suspected]
        if len(suspects) < _SHARE * len(acts) or usual > _USUAL:
            return None
        group = suspects if again else _dense(suspects)
        if len(group) < least.acts or len(_accounts(group)) < least.accounts or _repeated(group) < _REPEATED:
            return None
        held.told = self._top
        return Pumped(item, group, self._besides(item, group), len(suspects) / len(acts), usual)

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
    """Whether each row's person had done little before but what they do now, or the same again, (n,) bool."""
    asked = lesson.batch.questions
    done, own, repeats = (np.empty(rows.size, np.int64) for _ in range(3))
    _look_back(asked.history_start, rows, items, asked.history_item, asked.history_type, done, own, repeats)
    keen = (own >= AGAIN) & (own >= _PART * done)
    narrow: np.ndarray = (done - own <= _OTHERS) | keen | ((done >= _BUSY) & (repeats >= _AS_BEFORE * done))
    return narrow


@kernel
def _look_back(
    start: np.ndarray, rows: np.ndarray, items: np.ndarray, history_item: np.ndarray, history_type: np.ndarray,
    done: np.ndarray, own: np.ndarray, repeats: np.ndarray,
) -> None:  # fmt: skip
    """Of each row's history: its length, what was done with the row's item, what was done before in the same way."""
    seen, mask = np.zeros(256, np.uint64), np.uint64(255)
    for i in range(rows.size):
        begin, end = start[rows[i]], start[rows[i] + 1]
        seen[:] = np.uint64(0)
        done[i], own[i], repeats[i] = end - begin, 0, 0
        for h in range(begin, min(end, begin + 128)):  # half of what there is room for
            own[i] += history_item[h] == items[i]
            act = (history_item[h] ^ np.uint64(history_type[h])) | np.uint64(1 << 8)
            slot = (act ^ act >> np.uint64(32)) & mask
            while seen[slot] != act and seen[slot] != np.uint64(0):
                slot = (slot + np.uint64(1)) & mask
            repeats[i] += seen[slot] == act
            seen[slot] = act
