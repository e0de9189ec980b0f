"""Accounts of an attack are banned from its item; core members from all items."""

import msgspec

from online_models.guard.actors import BanList
from online_models.guard.findings import Finding, RemoveEvents, RollBack
from stream.clock import DAY_MS
from stream.ids import hash_id
from stream.quarantine import ANY_ITEM, parse_ban
from stream.testing import ManualClock, MemoryLog
from stream.topics import EVENTS, USERS
from tests.support.events import START

ITEM = "pushed"
ATTACK = Finding("poison", "shilling", f"{hash_id(ITEM):016x}", {"actions": 7}, {0: 0}, RollBack())


def attacked_log() -> tuple[MemoryLog, Finding]:
    """Users: `keen` clicks five times, `mild` once and once elsewhere, `guest` by chance."""
    log = MemoryLog(clock=ManualClock(START))
    for topic in (EVENTS, USERS):
        log.create(topic, 1)
    actions = [("keen", ITEM)] * 5 + [("mild", ITEM), ("mild", "other"), ("guest", ITEM)]
    events = [
        {"event_id": f"e{n}", "type": "click", "ts": START, "user_id": user, "item_id": item}
        for n, (user, item) in enumerate(actions)
    ]
    log.append(EVENTS, 0, [(None, msgspec.json.encode(event)) for event in events])
    users = frozenset({hash_id("keen"), hash_id("mild")})
    remedy = RemoveEvents(tuple((0, n) for n in range(len(events))), users)
    return log, Finding("poison", "shilling", ATTACK.subject, ATTACK.evidence, {0: 0}, remedy)


def list_bans(log: MemoryLog) -> list[tuple[str, str, int]]:
    records = log.read(USERS, 0, 0, 100)
    bans = [parse_ban(key, value) for key, value in zip(records.keys, records.values, strict=True)]
    return sorted((ban[0], ban[1].item_id, ban[1].end_ts) for ban in bans if ban)


def test_groups_are_banned_once_and_named_in_the_evidence() -> None:
    log, finding = attacked_log()
    bans = BanList(log, is_enabled=True)
    named = bans.apply(finding, START)
    bans.apply(finding, START + 1)

    assert named.evidence == {"actions": 7, "item_id": ITEM, "user_ids": ["keen", "mild"]}
    assert list_bans(log) == [("keen", ANY_ITEM, START + DAY_MS), ("mild", ITEM, START + DAY_MS)]


def test_groups_are_only_named_without_remedies() -> None:
    log, finding = attacked_log()

    assert BanList(log, is_enabled=False).apply(finding, START).evidence["item_id"] == ITEM
    assert list_bans(log) == []


def test_other_findings_stay_as_they_are() -> None:
    log, _ = attacked_log()

    assert BanList(log, is_enabled=True).apply(ATTACK, START) is ATTACK
