"""Accounts behind a shilling attack, by name, and the bans on what they do."""

from collections import Counter
from dataclasses import dataclass, replace

from online_models.guard.event_lookup import read_events
from online_models.guard.findings import Finding, RemoveEvents
from online_models.guard.settings import GuardRecord
from stream.clock import DAY_MS
from stream.ids import hash_id
from stream.logs import EventLog
from stream.quarantine import ANY_ITEM, ban

UserRef = tuple[int, str]  # partition and user_id


@dataclass(frozen=True, slots=True)
class BanSettings(GuardRecord):
    duration_ms: int = DAY_MS  # of event time
    core_min_repeats: int = 4  # repeated actions: five in all make an account suspect by itself
    max_named_users: int = 20  # in the alarm


@dataclass(frozen=True, slots=True)
class AttackGroup:
    """An item, and the accounts that push it."""

    item_id: str
    users: tuple[UserRef, ...]
    core_members: frozenset[UserRef]  # repeated their actions so often that nothing they do is credible


class BanList:
    """Quarantine a group's actions on its item, and all actions of its core members, for a day."""

    def __init__(self, log: EventLog, is_enabled: bool, settings: BanSettings | None = None) -> None:
        self._log = log
        self._is_enabled = is_enabled
        self._settings = settings or BanSettings()
        self._end_ts: dict[tuple[str, UserRef], int] = {}  # of each ban, by item and user

    def apply(self, finding: Finding, ts: int) -> Finding:
        """Ban the accounts behind single events, and add their names to the evidence."""
        if not isinstance(finding.remedy, RemoveEvents):
            return finding
        group = self._load_group(finding.subject, finding.remedy)
        if self._is_enabled:
            self._ban(group, ts)
        user_ids = [user_id for _, user_id in group.users][: self._settings.max_named_users]
        return replace(finding, evidence=finding.evidence | {"item_id": group.item_id, "user_ids": user_ids})

    def _load_group(self, item_key: str, remedy: RemoveEvents) -> AttackGroup:
        """Read the events again: the columns in which the detector found them hold no names."""
        item_id, action_counts, users = item_key, Counter[tuple[UserRef, str, str]](), dict[UserRef, None]()
        for partition, event in read_events(self._log, remedy.events):
            if hash_id(event.user) not in remedy.user_keys:  # another user's event, in the same record
                continue
            event_item, user_ref = event.item_id or "", (partition, event.user)
            action_counts[user_ref, event_item, event.type] += 1
            if f"{hash_id(event_item):016x}" == item_key:
                item_id, users[user_ref] = event_item, None
        repeats = Counter[UserRef]()
        for (user_ref, _, _), count in action_counts.items():
            repeats[user_ref] += count - 1
        core = frozenset(user_ref for user_ref in users if repeats[user_ref] >= self._settings.core_min_repeats)
        return AttackGroup(item_id, tuple(users), core)

    def _ban(self, group: AttackGroup, ts: int) -> None:
        """Ban from now on; an existing ban keeps its end."""
        bans = [(ANY_ITEM if user in group.core_members else group.item_id, user) for user in group.users]
        self._end_ts = {key: end_ts for key, end_ts in self._end_ts.items() if end_ts > ts}
        new_bans = [
            (item, user) for item, user in bans if self._end_ts.keys().isdisjoint({(item, user), (ANY_ITEM, user)})
        ]
        end_ts = ts + self._settings.duration_ms
        for item, partition in sorted({(item, partition) for item, (partition, _) in new_bans}):
            user_ids = [user_id for banned_item, (p, user_id) in new_bans if (banned_item, p) == (item, partition)]
            ban(self._log, partition, user_ids, item, end_ts)
        self._end_ts |= dict.fromkeys(new_bans, end_ts)
