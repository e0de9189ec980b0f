"""What was done in people's names leaves their past, and nothing else does: in learning, in answers, after restarts."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from online_models.control import ExcludeActionsCommand, encode_command
from online_models.features.history_filter import HistoryFilter
from stream.ids import hash_id
from stream.records.batches import EventType, Queries
from stream.testing import ManualClock, MemoryLog
from stream.topics import CONTROL, EVENTS
from stream.users.profiles import EMPTY_PROFILE, queries_from_profiles
from tests.support.events import START


def event(n: int, user: str, item: str, **more: Any) -> Mapping[str, Any]:
    told = {"event_id": f"e{n}", "type": "click", "ts": START + n, "user_id": user, "item_id": item}
    return told | {"impression_id": "r1"} | more


EVENTS_IN_ORDER = [
    event(0, "u1", "i1"),
    event(1, "u1", "i2", type="view", impression_id=None),
    event(2, "u1", "i3"),
    event(3, "u2", "i3"),
    event(4, "u2", "i4", impression_id=None),
    {"event_id": "e5", "type": "impression", "ts": START + 5, "user_id": "u1", "items": ["i1"], "impression_id": "r2"},
]


@pytest.fixture
def log() -> MemoryLog:
    made = MemoryLog(clock=ManualClock(START))
    made.create(EVENTS, 1)
    made.create(CONTROL, 1)
    made.append(EVENTS, 0, [(None, msgspec.json.encode(one)) for one in EVENTS_IN_ORDER])
    return made


def asked(user: str) -> Queries:
    """Somebody with all that they did."""
    blank = queries_from_profiles([EMPTY_PROFILE], [hash_id(user)], [START + 60_000], [0], [[]])
    did = [one for one in EVENTS_IN_ORDER if one["user_id"] == user and "item_id" in one]
    return _with(blank, did)


def _with(blank: Queries, did: list[Mapping[str, Any]]) -> Queries:
    columns = blank.arrays() | {
        "history_start": np.array([0, len(did)]),
        "history_item": np.array([hash_id(one["item_id"]) for one in did], np.uint64),
        "history_type": np.array([EventType[one["type"]] for one in did], np.uint8),
        "history_ts": np.array([one["ts"] for one in did], np.int64),
    }
    return Queries(**columns)


def struck(log: MemoryLog) -> HistoryFilter:
    log.append(CONTROL, 0, [(None, encode_command(ExcludeActionsCommand({"0": [(2, 6)]}, "label_flip-0.2")))])
    past = HistoryFilter()
    past.apply_commands(log, log.end_offset(CONTROL, 0))
    return past


def known(past: HistoryFilter, user: str) -> list[int]:
    items: list[int] = past.filter_queries(asked(user)).history_item.tolist()
    return items


def test_answers_to_slates_leave_the_past_and_all_else_stays(log: MemoryLog) -> None:
    past = struck(log)

    assert len(past.denylist) == 2
    assert known(past, "u1") == [hash_id("i1"), hash_id("i2")]
    assert known(past, "u2") == [hash_id("i4")]
    assert past.filter_queries(asked("u1")).history_start.tolist() == [0, 2]


def test_nobody_else_who_did_the_same_is_touched(log: MemoryLog) -> None:
    past = struck(log)
    other = Queries(**asked("u1").arrays() | {"user": np.array([hash_id("u9")], np.uint64)})

    assert past.filter_queries(other).history_item.size == 3


def test_it_goes_with_the_state_and_to_replicas_once(log: MemoryLog) -> None:
    past, replica, restored, older = struck(log), HistoryFilter(), HistoryFilter(), HistoryFilter()
    first, second = past.changes(), past.changes()
    replica.apply(first)
    replica.apply(second)
    restored.restore(past.state())
    older.restore({"truncation": np.zeros(2, np.int64), "control": np.zeros(1, np.int64)})

    assert "denylist" in first
    assert "denylist" not in second
    assert known(replica, "u1") == known(restored, "u1") == known(past, "u1")
    assert len(older.denylist) == 0


def test_what_the_log_no_longer_keeps_is_passed_over(log: MemoryLog) -> None:
    log.trim(EVENTS, 0, 3)
    past = struck(log)

    assert known(past, "u1") == [hash_id(f"i{n}") for n in (1, 2, 3)]
    assert known(past, "u2") == [hash_id("i4")]
