"""`headrace alarms list` filters alarms and marks the open ones."""

import json
from typing import Any

import pytest

from headrace.commands.alarms import AlarmFilter, list_alarms
from headrace.commands.errors import UsageError
from stream.alarms import Alarm, raise_alarms
from tests.support.live_folder import LiveFolder

TS = 1_767_225_600_000
ALARMS = [
    Alarm("label_flip-0.20", TS, "stream", "poison", "label_flip", {"rate": 0.5}, "pause"),
    Alarm("label_flip-0.20-closed", TS + 1, "stream", "poison", "label_flip", {}, "training continues"),
    Alarm("burst-0.9", TS + 2, "stream", "poison", "event_rate", {"user_id": "u1"}, "roll back"),
    Alarm("feature_drift-0.40", TS + 3, "stream", "drift", "feature_drift", {}, "followed: nothing is undone"),
]


@pytest.fixture
def list_ids(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> Any:
    raise_alarms(live.log, ALARMS)

    def run(**conditions: Any) -> list[str]:
        list_alarms(AlarmFilter(**conditions), None, as_json=True)
        return [alarm["id"] for alarm in json.loads(capsys.readouterr().out)]

    return run


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"kind": "drift"}, [3]),
        ({"detectors": ("event_rate", "feature_drift")}, [2, 3]),
        ({"is_open": True}, [2, 3]),
        ({"is_open": False}, [0, 1]),
        ({"since": "-1h"}, [0, 1, 2, 3]),
        ({"since": "2100-01-01"}, []),
        ({"kind": "poison", "is_open": True}, [2]),
    ],
)
def test_conditions_are_combined(list_ids: Any, conditions: dict[str, Any], expected: list[int]) -> None:
    assert list_ids(**conditions) == [ALARMS[n].id for n in expected]


def test_table_has_id_state_and_evidence(list_ids: Any, capsys: pytest.CaptureFixture[str]) -> None:
    list_alarms(AlarmFilter(detectors=("event_rate",)), None, as_json=False)
    line = capsys.readouterr().out.splitlines()[-1]

    assert line.startswith("burst-0.9 ")
    assert " open " in line
    assert line.endswith('{"user_id":"u1"}')


def test_log_without_alarms_says_so(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    list_alarms(AlarmFilter(), None, as_json=False)

    assert capsys.readouterr().out == "No alarm has been raised.\n"


def test_offset_is_no_time(live: LiveFolder) -> None:
    with pytest.raises(UsageError, match="--since '12' is invalid"):
        list_alarms(AlarmFilter(since="12"), None, as_json=True)
