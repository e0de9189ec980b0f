"""Alarms and quarantined actions are red while they need a decision."""

from typing import Any

import msgspec
import pytest

from headrace.diagnostics.alarms import check_alarms, read_context
from headrace.diagnostics.quarantine import check_quarantine, read_entries, resolved_events
from headrace.diagnostics.results import CheckResult
from online_models.control import PauseCommand, ResumeCommand, encode_command
from stream.alarms import Alarm, raise_alarms
from stream.quarantine import drop, list_quarantined, release
from stream.topics import CONTROL, EVENTS
from tests.support.serving_loop import NOW, LiveLoop, make_event

DAY_S = 86_400


def make_alarm(alarm_id: str = "event_rate-0.7", **fields: Any) -> Alarm:
    defaults: dict[str, Any] = {
        "ts": NOW, "depth": "stream", "kind": "poison", "detector": "event_rate", "evidence": {}, "remedy": "pause",
    }  # fmt: skip
    return Alarm(id=alarm_id, **defaults | fields)


def alarms(loop: LiveLoop) -> CheckResult:
    context = read_context(loop.log, resolved_events(read_entries(loop.log)))
    return check_alarms(loop.log, context, loop.clock.now_ms())


def quarantine(loop: LiveLoop) -> CheckResult:
    return check_quarantine(read_entries(loop.log), loop.clock.now_ms())


def send_flood(loop: LiveLoop) -> None:
    loop.send_events(*[make_event(user_id="bot", ts=NOW + n) for n in range(400)])
    loop.run_until_idle()


def test_open_alarm_is_red_with_id_age_and_remedy(loop: LiveLoop) -> None:
    raise_alarms(loop.log, [make_alarm()])
    loop.clock.advance(300)
    result = alarms(loop)

    assert not result.ok
    assert "event_rate-0.7 (poison, event_rate, 5.0 min ago), remedy: pause" in result.detail
    assert "AlarmRaised" in result.fix


@pytest.mark.parametrize(("kind", "hours", "ok"), [("poison", 23, False), ("poison", 25, True), ("drift", 2, True)])
def test_alarm_closes_with_time(loop: LiveLoop, kind: str, hours: float, ok: bool) -> None:
    raise_alarms(loop.log, [make_alarm(kind=kind)])
    loop.clock.advance(hours * 3600)

    assert alarms(loop).ok is ok


def test_alarm_closes_with_its_incident(loop: LiveLoop) -> None:
    raise_alarms(loop.log, [make_alarm(), make_alarm("event_rate-0.7-closed")])

    assert alarms(loop).ok


def test_alarm_stays_open_while_training_is_paused_for_it(loop: LiveLoop) -> None:
    raise_alarms(loop.log, [make_alarm()])
    loop.log.append(CONTROL, 0, [(None, encode_command(PauseCommand("event_rate-0.7")))])
    loop.clock.advance(2 * DAY_S)
    paused = alarms(loop)
    loop.log.append(CONTROL, 0, [(None, encode_command(ResumeCommand("event_rate-0.7")))])

    assert not paused.ok
    assert alarms(loop).ok


def test_only_the_newest_alarms_are_listed(loop: LiveLoop) -> None:
    raise_alarms(loop.log, [make_alarm(f"event_rate-{n}") for n in range(2000)])
    result = alarms(loop)

    assert result.detail.startswith("1,000 alarms open: event_rate-1999 (")
    assert "and 997 more" in result.detail


def test_quarantined_actions_are_red_by_detector(loop: LiveLoop) -> None:
    send_flood(loop)
    result, count = quarantine(loop), len(list_quarantined(loop.log))

    assert not result.ok
    assert f"{count} actions ({count} flood)" in result.detail
    assert "of user bot" in result.detail


@pytest.mark.parametrize("decide", [drop, release])
def test_decision_closes_quarantine_and_alarm(loop: LiveLoop, decide: Any) -> None:
    send_flood(loop)
    before = alarms(loop)
    decide(loop.log, list_quarantined(loop.log))

    assert not before.ok
    assert quarantine(loop).detail == "empty"
    assert alarms(loop).ok


def test_decision_on_an_event_of_an_array_leaves_the_others(loop: LiveLoop) -> None:
    events = [make_event(user_id="bot", ts=NOW + n) for n in range(400)]
    loop.log.append(EVENTS, 0, [(b"bot", msgspec.json.encode(events))])
    loop.run_until_idle()
    [first, *others] = list_quarantined(loop.log)
    drop(loop.log, [first])
    result = quarantine(loop)

    assert not result.ok
    assert result.detail.startswith(f"{len(others)} actions")


def test_old_quarantine_is_shown_and_fine(loop: LiveLoop) -> None:
    send_flood(loop)
    loop.clock.advance(2 * DAY_S)
    result = quarantine(loop)

    assert result.ok
    assert "flood" in result.detail


def test_large_quarantine_is_read_in_part(loop: LiveLoop) -> None:
    send_flood(loop)
    [first, *_] = list_quarantined(loop.log)
    copies = [msgspec.structs.replace(first, offset=n) for n in range(12_000)]
    loop.log.append("quarantine", 0, [(None, msgspec.json.encode(copy)) for copy in copies])

    assert quarantine(loop).detail.startswith("at least 10,000 actions")
