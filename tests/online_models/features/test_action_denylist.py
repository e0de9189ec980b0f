"""Denied actions leave user histories, and nothing else does."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from online_models.control import ExcludeActionsCommand, encode_command
from online_models.features.history_filter import HistoryFilter
from stream.clock import MINUTE_MS
from stream.ids import hash_id
from stream.records.batches import EventType, Queries
from stream.testing import ManualClock, MemoryLog
from stream.topics import CONTROL, EVENTS
from stream.users.profiles import EMPTY_PROFILE, queries_from_profiles
from tests.support.events import START


def event(n: int, user: str, item: str, **more: Any) -> Mapping[str, Any]:
    fields = {"event_id": f"e{n}", "type": "click", "ts": START + n, "user_id": user, "item_id": item}
    return fields | {"impression_id": "r1"} | more


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
    log = MemoryLog(clock=ManualClock(START))
    log.create(EVENTS, 1)
    log.create(CONTROL, 1)
    log.append(EVENTS, 0, [(None, msgspec.json.encode(fields)) for fields in EVENTS_IN_ORDER])
    return log


def make_query(user: str) -> Queries:
    """A query of a user with all their actions as history."""
    blank = queries_from_profiles([EMPTY_PROFILE], [hash_id(user)], [START + MINUTE_MS], [0], [[]])
    actions = [fields for fields in EVENTS_IN_ORDER if fields["user_id"] == user and "item_id" in fields]
    return replace(
        blank,
        history_start=np.array([0, len(actions)]),
        history_item=np.array([hash_id(action["item_id"]) for action in actions], np.uint64),
        history_type=np.array([EventType[action["type"]] for action in actions], np.uint8),
        history_ts=np.array([action["ts"] for action in actions], np.int64),
    )


def make_filter(log: MemoryLog) -> HistoryFilter:
    log.append(CONTROL, 0, [(None, encode_command(ExcludeActionsCommand({"0": [(2, 6)]}, "label_flip-0.2")))])
    history_filter = HistoryFilter()
    history_filter.apply_commands(log, log.end_offset(CONTROL, 0))
    return history_filter


def read_history(history_filter: HistoryFilter, user: str) -> list[int]:
    items: list[int] = history_filter.filter_queries(make_query(user)).history_item.tolist()
    return items


def test_denied_actions_on_slates_leave_the_history(log: MemoryLog) -> None:
    history_filter = make_filter(log)

    assert len(history_filter.denylist) == 2
    assert read_history(history_filter, "u1") == [hash_id("i1"), hash_id("i2")]
    assert read_history(history_filter, "u2") == [hash_id("i4")]
    assert history_filter.filter_queries(make_query("u1")).history_start.tolist() == [0, 2]


def test_the_same_actions_of_other_users_stay(log: MemoryLog) -> None:
    history_filter = make_filter(log)
    other = replace(make_query("u1"), user=np.array([hash_id("u9")], np.uint64))

    assert history_filter.filter_queries(other).history_item.size == 3


def test_the_denylist_reaches_replicas_once(log: MemoryLog) -> None:
    history_filter, replica, restored = make_filter(log), HistoryFilter(), HistoryFilter()
    first, second = history_filter.changes(), history_filter.changes()
    replica.apply(first)
    replica.apply(second)
    restored.restore(history_filter.state())

    assert "denylist" in first
    assert "denylist" not in second
    assert read_history(replica, "u1") == read_history(restored, "u1") == read_history(history_filter, "u1")


def test_events_that_the_log_deleted_are_skipped(log: MemoryLog) -> None:
    log.trim(EVENTS, 0, 3)
    history_filter = make_filter(log)

    assert read_history(history_filter, "u1") == [hash_id(f"i{n}") for n in (1, 2, 3)]
    assert read_history(history_filter, "u2") == [hash_id("i4")]
