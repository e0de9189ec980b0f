"""Retention deletes by age, and never because of a clock that jumps."""

import logging

import pytest

from stream.clock import DAY_MS, HOUR_MS, MINUTE_MS
from stream.config import LogSettings, Settings
from stream.logs import EventLog
from stream.memory.log import MemoryLog
from stream.topics import EVENTS, create_topics
from stream.worker.retention import Retention

START = 1_767_225_600_000
SETTINGS = Settings(log=LogSettings(retention=7 * 86_400))


class Machine:
    """Clock of a machine that can be set, and the time that really passes."""

    def __init__(self) -> None:
        self.ms, self.elapsed_s = START, 0.0

    def now_ms(self) -> int:
        return self.ms

    def elapsed(self) -> float:
        return self.elapsed_s

    def wait(self, ms: int) -> None:
        self.ms += ms
        self.elapsed_s += ms / 1000


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def log(machine: Machine) -> EventLog:
    log = MemoryLog(clock=machine)
    create_topics(log)
    log.append(EVENTS, 0, [(b"u", b"old")])
    return log


def open_retention(log: EventLog, machine: Machine) -> Retention:
    return Retention(log, SETTINGS, machine, machine.elapsed)


def run_for(retention: Retention, machine: Machine, ms: int) -> None:
    for _ in range(ms // (10 * MINUTE_MS)):
        machine.wait(10 * MINUTE_MS)
        retention.run_if_due()


def count_events(log: EventLog) -> int:
    return log.end_offset(EVENTS, 0) - log.start_offset(EVENTS, 0)


def test_records_above_the_age_are_deleted(log: EventLog, machine: Machine) -> None:
    retention = open_retention(log, machine)
    run_for(retention, machine, 6 * DAY_MS)
    log.append(EVENTS, 0, [(b"u", b"new")])
    assert count_events(log) == 2
    run_for(retention, machine, 2 * DAY_MS)

    assert count_events(log) == 1


def test_clock_that_jumps_ahead_and_back_deletes_nothing(
    log: EventLog, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    retention = open_retention(log, machine)
    machine.ms += 30 * DAY_MS
    run_for(retention, machine, 20 * HOUR_MS)
    machine.ms -= 30 * DAY_MS
    run_for(retention, machine, 2 * DAY_MS)

    assert count_events(log) == 1
    assert "the clock is 720.0 hours ahead of the time that has passed; retention deletes nothing" in caplog.text


def test_start_while_the_clock_is_ahead_deletes_nothing(log: EventLog, machine: Machine) -> None:
    machine.ms += 30 * DAY_MS
    retention = open_retention(log, machine)
    run_for(retention, machine, 23 * HOUR_MS)

    assert count_events(log) == 1


@pytest.mark.parametrize("jump_ms", [30 * DAY_MS, 2 * HOUR_MS])
def test_clock_that_stays_ahead_is_right_after_a_day(log: EventLog, machine: Machine, jump_ms: int) -> None:
    retention = open_retention(log, machine)
    machine.ms += jump_ms
    run_for(retention, machine, 9 * DAY_MS)

    assert count_events(log) == 0


def test_clock_that_is_set_back_does_not_stop_retention(
    log: EventLog, machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    retention = open_retention(log, machine)
    machine.ms -= 3 * DAY_MS
    run_for(retention, machine, 11 * DAY_MS)

    assert count_events(log) == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
