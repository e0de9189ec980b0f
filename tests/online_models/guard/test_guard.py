"""The guard creates its alarm series at the start, and raises alarms lost in a crash."""

from pathlib import Path

import prometheus_client
import pytest

from online_models.control import PauseCommand, RollbackCommand, encode_command
from online_models.guard.findings import ALARM_SOURCES, AlarmOnly, Finding
from online_models.guard.guard import Guard
from stream.alarms import read_alarms
from stream.config import GuardSettings
from stream.testing import ManualClock, MemoryLog
from stream.topics import ALARMS, CONTROL, EXAMPLES


@pytest.fixture
def log() -> MemoryLog:
    log = MemoryLog(clock=ManualClock(0))
    for topic in (ALARMS, CONTROL, EXAMPLES):
        log.create(topic, 1)
    return log


def test_every_alarm_has_a_series_from_the_start(log: MemoryLog, tmp_path: Path) -> None:
    Guard(log, GuardSettings(), tmp_path, now=0)
    series = {
        (sample.labels["depth"], sample.labels["kind"], sample.labels["detector"])
        for metric in prometheus_client.REGISTRY.collect()
        if metric.name == "headrace_alarms"
        for sample in metric.samples
    }

    assert series >= {(source.depth, kind, d) for d, source in ALARM_SOURCES.items() for kind in source.kinds}


def test_alarms_lost_in_a_crash_are_raised_once_after_it(log: MemoryLog, tmp_path: Path) -> None:
    commands = (
        RollbackCommand("000001-000000001", None, "action_outage-x-0.7"),
        RollbackCommand("000001-000000001", None, "manual"),
        PauseCommand("loss of a disk"),
    )
    log.append(CONTROL, 0, [(None, encode_command(command)) for command in commands])
    for _ in range(2):
        Guard(log, GuardSettings(), tmp_path, now=0)

    assert [(alarm.id, alarm.depth, alarm.kind) for alarm in read_alarms(log)] == [
        ("action_outage-x-0.7", "stream", "poison")
    ]


def test_findings_of_unknown_detectors_or_kinds_are_rejected() -> None:
    with pytest.raises(ValueError, match="unknown finding: drift of 'shilling'"):
        Finding("drift", "shilling", "", {}, {}, AlarmOnly())
    with pytest.raises(ValueError, match="unknown finding: poison of 'flood'"):
        Finding("poison", "flood", "", {}, {}, AlarmOnly())
