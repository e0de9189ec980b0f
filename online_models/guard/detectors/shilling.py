"""Detect shilling: accounts that act again and again on an item that they were not shown."""

from collections import Counter, deque
from dataclasses import dataclass, field

import numpy as np

from online_models.guard.bins import NewRows
from online_models.guard.findings import Finding, RemoveEvents
from online_models.guard.settings import GuardRecord
from stream.clock import HOUR_MS, MINUTE_MS
from stream.jit import kernel
from stream.records.batches import EventType, Kind, Queries
from stream.records.signs import plain_types


@dataclass(frozen=True, slots=True)
class SuspectSettings(GuardRecord):
    """Conditions that make an account suspect when it acts on an item; one of three is enough."""

    max_other_actions: int = 2  # 1. hardly any action on other items
    core_min_actions: int = 5  # 2. many actions on this item,
    min_item_share: float = 0.25  # and this share of its history
    min_history: int = 10  # 3. a long history,
    min_repeats_share: float = 0.5  # and this share of it repeats earlier actions


@dataclass(frozen=True, slots=True)
class ShillingSettings(GuardRecord):
    window_ms: int = HOUR_MS
    alarm_interval_ms: int = MINUTE_MS  # per item
    min_suspect_share: float = 0.8  # of all unshown actions on the item
    max_baseline_share: float = 0.5  # of suspect actions on all items, above which suspects are normal here
    min_repeats_share: float = 0.5  # of suspect actions: visitors who follow a link do each thing once
    new_group_actions: int = 50
    new_group_accounts: int = 3
    known_group_actions: int = 10  # of an item that was reported within the window
    decay: float = 0.999  # of the baseline share, per action
    pause_factor: float = 10.0  # times the median pause between actions: a longer one starts a new group


@dataclass(frozen=True, slots=True)
class SuspectAction:
    """An action on an item that the account was not shown."""

    ts: int
    partition: int
    offset: int
    user: int
    type: int


@dataclass(slots=True)
class _ItemActions:
    """Organic actions of the window on one item."""

    actions: deque[SuspectAction] = field(default_factory=deque)
    actions_by_user: Counter[int] = field(default_factory=Counter)
    suspect_users: set[int] = field(default_factory=set)
    n_suspect_actions: int = 0  # of suspect users
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
        """Drop the actions before an event time, ms."""
        while self.actions and self.actions[0].ts < start_ts:
            user = self.actions.popleft().user
            self.actions_by_user[user] -= 1
            self.n_suspect_actions -= user in self.suspect_users
            if not self.actions_by_user[user]:
                del self.actions_by_user[user]
                self.suspect_users.discard(user)


class ShillingDetector:
    """Keep an hour of organic actions by item, and report items that suspect accounts push.

    - Null hypothesis: unshown actions on an item come from visitors who do each thing once, or from ordinary accounts.
    - Statistic: number of actions by suspect accounts within an hour, their share of the item's organic actions, and
      the share that repeats earlier actions.
    - Threshold: 50 actions of 3 accounts, 80 %, and half of them; 10 actions for an item that was reported within the
      hour.
    - An alarm means that a group pushes the item; it is repeated once a minute while that lasts.

    The baseline is the share of suspect actions on all items: where most accounts look suspect, none is reported.
    """

    def __init__(self, settings: ShillingSettings | None = None, suspects: SuspectSettings | None = None) -> None:
        self._settings, self._suspects = settings or ShillingSettings(), suspects or SuspectSettings()
        self.reset()

    def reset(self) -> None:
        self._items: dict[int, _ItemActions] = {}
        self._total_actions = self._suspect_actions = 0.0
        self._max_ts = 0

    def update(self, rows: NewRows) -> list[Finding]:
        if rows.opens_bin:
            self._expire()
        batch = rows.batch
        is_organic = rows.is_new & (batch.kind == Kind.action) & batch.organic & (batch.type != EventType.dislike)
        actions = np.flatnonzero(is_organic)
        if actions.size == 0:
            return []
        items = batch.lists.item[batch.lists.start[actions]]
        is_suspect = self._mask_suspects(batch.queries, actions, items)
        decay = self._settings.decay**actions.size
        self._total_actions = decay * self._total_actions + actions.size
        self._suspect_actions = decay * self._suspect_actions + int(is_suspect.sum())
        position = rows.partition[actions], batch.offset[actions]
        columns = is_suspect, items, batch.ts[actions], *position, batch.queries.user[actions], batch.type[actions]
        for is_suspect_row, item, *action in zip(*(column.tolist() for column in columns), strict=True):
            self._items.setdefault(item, _ItemActions()).add(SuspectAction(*action), is_suspect_row)
        self._max_ts = max(self._max_ts, int(batch.ts[actions].max()))
        return [finding for item in set(items[is_suspect].tolist()) if (finding := self._check_item(item))]

    def _expire(self) -> None:
        """Drop actions that are older than the window."""
        for item in list(self._items):
            self._items[item].trim(self._max_ts - self._settings.window_ms)
            if not self._items[item].actions:
                del self._items[item]

    def _check_item(self, item: int) -> Finding | None:
        item_actions, settings = self._items[item], self._settings
        is_known = self._max_ts < item_actions.reported_ts + settings.window_ms
        min_actions = settings.known_group_actions if is_known else settings.new_group_actions
        min_accounts = 1 if is_known else settings.new_group_accounts
        is_repeated = self._max_ts < item_actions.reported_ts + settings.alarm_interval_ms
        if is_repeated or item_actions.n_suspect_actions < min_actions:
            return None
        item_actions.trim(self._max_ts - settings.window_ms)
        recent = [action for action in item_actions.actions if action.ts > item_actions.reported_ts]
        suspects = [action for action in recent if action.user in item_actions.suspect_users]
        baseline_share = self._suspect_actions / self._total_actions
        if len(suspects) < settings.min_suspect_share * len(recent) or baseline_share > settings.max_baseline_share:
            return None
        group = suspects if is_known else self._select_latest_burst(suspects)
        if len(group) < min_actions or len(_unique_users(group)) < min_accounts:
            return None
        if _repeats_share(group) < settings.min_repeats_share:
            return None
        item_actions.reported_ts = self._max_ts
        return self._make_finding(item, group, len(suspects) / len(recent), baseline_share)

    def _make_finding(self, item: int, group: list[SuspectAction], share: float, baseline_share: float) -> Finding:
        other_actions, users = self._find_other_actions(item, group), _unique_users(group)
        actions, first_offsets = [*group, *other_actions], dict[int, int]()
        for action in actions:
            first_offsets[action.partition] = min(action.offset, first_offsets.get(action.partition, action.offset))
        evidence = {
            "reason": "accounts that do little else act again and again on an item that they were not shown",
            "actions": len(group),
            "accounts": len(users),
            "other_actions": len(other_actions),
            "share": round(share, 3),
            "baseline_share": round(baseline_share, 3),
        }
        remedy = RemoveEvents(tuple((action.partition, action.offset) for action in actions), frozenset(users))
        return Finding("poison", "shilling", f"{item:016x}", evidence, first_offsets, remedy)

    def _find_other_actions(self, item: int, suspects: list[SuspectAction]) -> list[SuspectAction]:
        """Actions of a group on other items since it began: they are camouflage, and as untrue."""
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

    def _select_latest_burst(self, suspects: list[SuspectAction]) -> list[SuspectAction]:
        """Actions after the last long pause: earlier visitors are not part of the group."""
        pauses = np.diff(np.array([action.ts for action in suspects]))
        if pauses.size == 0:
            return suspects
        min_pause_ms = self._settings.pause_factor * max(1_000.0, float(np.median(pauses)))
        long_pauses = np.flatnonzero(pauses > min_pause_ms)
        return suspects[int(long_pauses[-1]) + 1 :] if long_pauses.size else suspects

    def _mask_suspects(self, queries: Queries, rows: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Mask of the rows, (n,) bool, whose account meets a condition of `SuspectSettings`."""
        lengths, item_counts, repeat_counts = (np.empty(rows.size, np.int64) for _ in range(3))
        start, history = queries.history_start, (queries.history_item, plain_types(queries.history_type))
        _scan_history(start, rows, items, *history, lengths, item_counts, repeat_counts)
        settings = self._suspects
        is_core = (item_counts >= settings.core_min_actions) & (item_counts >= settings.min_item_share * lengths)
        is_repetitive = repeat_counts >= settings.min_repeats_share * lengths
        has_single_interest = lengths - item_counts <= settings.max_other_actions
        is_suspect: np.ndarray = has_single_interest | is_core | ((lengths >= settings.min_history) & is_repetitive)
        return is_suspect


def _unique_users(suspects: list[SuspectAction]) -> set[int]:
    return {action.user for action in suspects}


def _repeats_share(suspects: list[SuspectAction]) -> float:
    """Share of actions that the account had done with the item before."""
    return 1 - len({(action.user, action.type) for action in suspects}) / max(1, len(suspects))


@kernel
def _scan_history(
    start: np.ndarray, rows: np.ndarray, items: np.ndarray, history_item: np.ndarray, history_type: np.ndarray,
    lengths: np.ndarray, item_counts: np.ndarray, repeat_counts: np.ndarray,
) -> None:  # fmt: skip
    """Count each row's history, its actions on the row's item, and its repeated actions."""
    hash_set, mask = np.zeros(256, np.uint64), np.uint64(255)
    for i in range(rows.size):
        begin, end = start[rows[i]], start[rows[i] + 1]
        hash_set[:] = np.uint64(0)
        lengths[i], item_counts[i], repeat_counts[i] = end - begin, 0, 0
        for h in range(begin, min(end, begin + 128)):  # the set is at most half full
            item_counts[i] += history_item[h] == items[i]
            code = (history_item[h] ^ np.uint64(history_type[h])) | np.uint64(1 << 8)
            slot = (code ^ code >> np.uint64(32)) & mask
            while hash_set[slot] != code and hash_set[slot] != np.uint64(0):
                slot = (slot + np.uint64(1)) & mask
            repeat_counts[i] += hash_set[slot] == code
            hash_set[slot] = code
