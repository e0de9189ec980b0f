"""Items that are pumped: acted on by accounts that do little else, and that were not shown them."""

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from online_models.training.step import TrainingBatch
from stream.jit import kernel
from stream.records.batches import EventType, Kind

_WINDOW_MS = 3_600_000
_ALARM_INTERVAL_MS = 60_000
_MIN_SUSPECT_SHARE = 0.8  # of all that is done with the item unshown
_MAX_BASELINE_SHARE = 0.5  # share of suspect actions overall above which newcomers are what is usual here
_MAX_OTHER_ACTIONS = 2  # actions on other items that make an account one that does something else, unless
CORE_MIN_ACTIONS = 5  # it has acted so often on this one, and that was
_MIN_ITEM_SHARE = 0.25  # of all that it did; or
_MIN_HISTORY = 10  # it has done so much, and
_MIN_HISTORY_REPEATS = 0.5  # of that what it had done with the same item before
_MIN_REPEAT_SHARE = (
    0.5  # share of suspect actions that their account did before: who follows a link does each thing once
)
_DECAY = 0.999  # of the overall share, per action


@dataclass(frozen=True, slots=True)
class _GroupThreshold:
    """What makes a group: suspect actions on one item in a window, and accounts."""

    actions: int
    accounts: int


_NEW_GROUP, _KNOWN_GROUP = (
    _GroupThreshold(50, 3),
    _GroupThreshold(10, 1),
)  # the second, where a group was found within the window


@dataclass(frozen=True, slots=True)
class SuspectAction:
    """An action on an item that its account was not shown, of an account that does little else."""

    ts: int
    partition: int
    offset: int
    user: int
    type: int


@dataclass(slots=True)
class _ItemActions:
    """Actions of the last hour that answer no slate, and whose they are."""

    actions: deque[SuspectAction] = field(default_factory=deque)
    actions_by_user: Counter[int] = field(default_factory=Counter)
    suspect_users: set[int] = field(default_factory=set)
    n_suspect_actions: int = 0  # actions of accounts that do little else
    reported_ts: int = 0  # event time, ms

    def add(self, action: SuspectAction, is_suspect: bool) -> None:
        self.actions.append(action)
        self.actions_by_user[action.user] += 1
        if action.user in self.suspect_users:
            self.n_suspect_actions += 1
        elif is_suspect:
            self.suspect_users.add(action.user)
            self.n_suspect_actions += self.actions_by_user[action.user]

    def trim(self, start_ts: int) -> None:
        """Forget what was before a time, ms."""
        while self.actions and self.actions[0].ts < start_ts:
            user = self.actions.popleft().user
            self.actions_by_user[user] -= 1
            self.n_suspect_actions -= user in self.suspect_users
            if not self.actions_by_user[user]:
                del self.actions_by_user[user]
                self.suspect_users.discard(user)


@dataclass(frozen=True, slots=True)
class ShillingAttack:
    """An item and what pumps it."""

    item: int
    suspects: list[SuspectAction]
    other_actions: list[SuspectAction]  # what the same accounts did with other items meanwhile
    share: float
    baseline_share: float

    @property
    def accounts(self) -> int:
        return len(_unique_users(self.suspects))


class ShillingDetector:
    """Keeps the last hour of actions that answer no slate, by item; an item is told once a minute while it lasts."""

    def __init__(self) -> None:
        self._items: dict[int, _ItemActions] = {}
        self._total_actions = self._suspect_actions = 0.0
        self._max_ts = 0

    def update(self, training_batch: TrainingBatch, is_new: np.ndarray) -> list[ShillingAttack]:
        """Items found pumped with these rows."""
        batch = training_batch.batch
        rows = np.flatnonzero(is_new & (batch.kind == Kind.action) & batch.organic & (batch.type != EventType.dislike))
        if rows.size == 0:
            return []
        items = batch.lists.item[batch.lists.start[rows]]
        is_suspect = _mask_suspects(training_batch, rows, items)
        decay = _DECAY**rows.size
        self._total_actions = decay * self._total_actions + rows.size
        self._suspect_actions = decay * self._suspect_actions + int(is_suspect.sum())
        position = training_batch.partition[rows], batch.offset[rows]
        columns = is_suspect, items, batch.ts[rows], *position, batch.queries.user[rows], batch.type[rows]
        for is_suspect_row, item, *action in zip(*(column.tolist() for column in columns), strict=True):
            self._items.setdefault(item, _ItemActions()).add(SuspectAction(*action), is_suspect_row)
        self._max_ts = max(self._max_ts, int(batch.ts[rows].max()))
        return [attack for item in set(items[is_suspect].tolist()) if (attack := self._find_attack(item))]

    def expire(self) -> None:
        """Forget what is older than the window."""
        for item in list(self._items):
            self._items[item].trim(self._max_ts - _WINDOW_MS)
            if not self._items[item].actions:
                del self._items[item]

    def _find_attack(self, item: int) -> ShillingAttack | None:
        item_actions = self._items[item]
        is_known_group = self._max_ts < item_actions.reported_ts + _WINDOW_MS
        threshold = _KNOWN_GROUP if is_known_group else _NEW_GROUP
        if (
            self._max_ts < item_actions.reported_ts + _ALARM_INTERVAL_MS
            or item_actions.n_suspect_actions < threshold.actions
        ):
            return None
        item_actions.trim(self._max_ts - _WINDOW_MS)
        baseline_share = self._suspect_actions / self._total_actions
        recent = [action for action in item_actions.actions if action.ts > item_actions.reported_ts]
        suspects = [action for action in recent if action.user in item_actions.suspect_users]
        if len(suspects) < _MIN_SUSPECT_SHARE * len(recent) or baseline_share > _MAX_BASELINE_SHARE:
            return None
        group = suspects if is_known_group else _select_latest_burst(suspects)
        if (
            len(group) < threshold.actions
            or len(_unique_users(group)) < threshold.accounts
            or _repeat_share(group) < _MIN_REPEAT_SHARE
        ):
            return None
        item_actions.reported_ts = self._max_ts
        return ShillingAttack(
            item, group, self._find_other_actions(item, group), len(suspects) / len(recent), baseline_share
        )

    def _find_other_actions(self, item: int, suspects: list[SuspectAction]) -> list[SuspectAction]:
        """What a group did with other items since it began: it looks like anybody's, and is as little meant."""
        group, start_ts = _unique_users(suspects), min(suspect.ts for suspect in suspects)
        others = (
            item_actions
            for other_item, item_actions in self._items.items()
            if other_item != item and not group.isdisjoint(item_actions.actions_by_user)
        )
        return [
            action
            for item_actions in others
            for action in item_actions.actions
            if action.user in group and action.ts >= start_ts
        ]


def _select_latest_burst(suspects: list[SuspectAction]) -> list[SuspectAction]:
    """Those behind the last long pause: who came before a group began is none of it."""
    ts = np.array([action.ts for action in suspects])
    pauses = np.diff(ts)
    if pauses.size == 0:
        return suspects
    long_pauses = np.flatnonzero(pauses > 10 * max(1_000.0, float(np.median(pauses))))
    return suspects[int(long_pauses[-1]) + 1 :] if long_pauses.size else suspects


def _unique_users(suspects: list[SuspectAction]) -> set[int]:
    return {action.user for action in suspects}


def _repeat_share(suspects: list[SuspectAction]) -> float:
    """Share of actions that their account had done with the item before."""
    return 1 - len({(action.user, action.type) for action in suspects}) / max(1, len(suspects))


def _mask_suspects(training_batch: TrainingBatch, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Whether each row's person had done little before but what they do now, or the same again, (n,) bool."""
    queries = training_batch.batch.queries
    lengths, item_counts, repeat_counts = (np.empty(rows.size, np.int64) for _ in range(3))
    _scan_history(
        queries.history_start,
        rows,
        items,
        queries.history_item,
        queries.history_type,
        lengths,
        item_counts,
        repeat_counts,
    )
    is_core = (item_counts >= CORE_MIN_ACTIONS) & (item_counts >= _MIN_ITEM_SHARE * lengths)
    is_suspect: np.ndarray = (
        (lengths - item_counts <= _MAX_OTHER_ACTIONS)
        | is_core
        | ((lengths >= _MIN_HISTORY) & (repeat_counts >= _MIN_HISTORY_REPEATS * lengths))
    )
    return is_suspect


@kernel
def _scan_history(
    start: np.ndarray, rows: np.ndarray, items: np.ndarray, history_item: np.ndarray, history_type: np.ndarray,
    lengths: np.ndarray, item_counts: np.ndarray, repeat_counts: np.ndarray,
) -> None:  # fmt: skip
    """Of each row's history: its length, what was done with the row's item, what was done before in the same way."""
    hash_set, mask = np.zeros(256, np.uint64), np.uint64(255)
    for i in range(rows.size):
        begin, end = start[rows[i]], start[rows[i] + 1]
        hash_set[:] = np.uint64(0)
        lengths[i], item_counts[i], repeat_counts[i] = end - begin, 0, 0
        for h in range(begin, min(end, begin + 128)):  # half of what there is room for
            item_counts[i] += history_item[h] == items[i]
            code = (history_item[h] ^ np.uint64(history_type[h])) | np.uint64(1 << 8)
            slot = (code ^ code >> np.uint64(32)) & mask
            while hash_set[slot] != code and hash_set[slot] != np.uint64(0):
                slot = (slot + np.uint64(1)) & mask
            repeat_counts[i] += hash_set[slot] == code
            hash_set[slot] = code
