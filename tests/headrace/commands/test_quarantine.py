"""`headrace quarantine` selects actions by event, user, item, detector and range."""

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from headrace.commands.errors import UsageError
from headrace.commands.quarantine import (
    DROP,
    RELEASE,
    ActionFilter,
    DecisionExecution,
    print_quarantine,
    resolve_actions,
)
from stream.quarantine import QuarantinedAction, list_quarantined
from stream.topics import EVENTS, QUARANTINE
from tests.support.live_folder import LiveFolder

JSON = DecisionExecution(as_json=True)
SPECIAL = "[red]{ü} "  # an id that a table must print as it is


@pytest.fixture
def quarantined(live: LiveFolder) -> list[QuarantinedAction]:
    actions = [
        make_action(f"e{n}", user, item, detector, n)
        for n, (user, item, detector) in enumerate(
            [("u1", "a", "flood"), ("u1", "b", "speed"), ("u2", "a", "flood"), (SPECIAL, "a", "shilling")]
        )
    ]
    live.log.append(QUARANTINE, 0, [(None, msgspec.json.encode(action)) for action in actions])
    return actions


def make_action(event_id: str, user: str, item: str, detector: str, offset: int) -> QuarantinedAction:
    event = {"event_id": event_id, "type": "click", "ts": 1_767_225_600_000, "user_id": user, "item_id": item}
    raw = msgspec.Raw(msgspec.json.encode(event))
    return QuarantinedAction(event_id, user, item, detector, "too fast", 0, offset, raw)


def list_ids(live: LiveFolder) -> list[str]:
    return [action.event_id for action in list_quarantined(live.log)]


@pytest.mark.parametrize(
    ("action_filter", "ids"),
    [
        (ActionFilter(), ["e0", "e1", "e2", "e3"]),
        (ActionFilter(users=["u1"]), ["e0", "e1"]),
        (ActionFilter(users=["u1"], detectors=["flood"]), ["e0"]),
        (ActionFilter(users=["u1", "u2"], items=["a"]), ["e0", "e2"]),
        (ActionFilter(ranges=["0:1-3"]), ["e1", "e2"]),
        (ActionFilter(users=["nobody"]), []),
    ],
    ids=["all", "user", "user and detector", "users and item", "range", "nobody"],
)
def test_conditions_are_combined(
    live: LiveFolder,
    quarantined: Sequence[QuarantinedAction],
    action_filter: ActionFilter,
    ids: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_quarantine(action_filter, None, as_json=True)

    assert [row["event_id"] for row in json.loads(capsys.readouterr().out)] == ids


def test_release_by_user_appends_the_events_again(live: LiveFolder, quarantined: Sequence[QuarantinedAction]) -> None:
    end = live.log.end_offset(EVENTS, 0)
    code = resolve_actions(RELEASE, ActionFilter(users=["u1"]), None, JSON)
    records = live.log.read(EVENTS, 0, end, 10)

    assert code == 0
    assert list_ids(live) == ["e2", "e3"]
    assert [json.loads(value or b"")["event_id"] for value in records.values] == ["e0", "e1"]


def test_drop_by_detector_appends_no_event(live: LiveFolder, quarantined: Sequence[QuarantinedAction]) -> None:
    end = live.log.end_offset(EVENTS, 0)
    resolve_actions(DROP, ActionFilter(detectors=["flood"]), None, JSON)

    assert list_ids(live) == ["e1", "e3"]
    assert live.log.end_offset(EVENTS, 0) == end


def test_all_actions_are_dropped_with_all(live: LiveFolder, quarantined: Sequence[QuarantinedAction]) -> None:
    resolve_actions(DROP, ActionFilter(is_all=True), None, JSON)

    assert list_ids(live) == []


def test_dry_run_changes_nothing(
    live: LiveFolder, quarantined: Sequence[QuarantinedAction], capsys: pytest.CaptureFixture[str]
) -> None:
    code = resolve_actions(RELEASE, ActionFilter(users=["u1"]), None, DecisionExecution(is_dry_run=True))

    assert code == 0
    assert capsys.readouterr().out == "2 actions of 1 user (flood 1, speed 1)\nNothing has changed.\n"
    assert list_ids(live) == ["e0", "e1", "e2", "e3"]


def test_unknown_event_changes_nothing(
    live: LiveFolder, quarantined: Sequence[QuarantinedAction], capsys: pytest.CaptureFixture[str]
) -> None:
    assert resolve_actions(DROP, ActionFilter(event_ids=["e0", "e9"]), None, JSON) == 1
    assert "not in quarantine: e9; see `headrace quarantine list`" in capsys.readouterr().err
    assert list_ids(live) == ["e0", "e1", "e2", "e3"]


def test_decision_without_conditions_is_wrong_usage(live: LiveFolder) -> None:
    with pytest.raises(UsageError, match="--detector"):
        resolve_actions(DROP, ActionFilter(), None, JSON)


def test_table_prints_ids_as_they_are(
    live: LiveFolder, quarantined: Sequence[QuarantinedAction], capsys: pytest.CaptureFixture[str]
) -> None:
    print_quarantine(ActionFilter(), None, as_json=False)
    output: Any = capsys.readouterr().out

    assert "4 quarantined actions" in output
    assert SPECIAL in output
