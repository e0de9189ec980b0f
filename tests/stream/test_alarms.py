"""Alarms: a topic that keeps the whole evidence, and log lines without users."""

import logging

import pytest

from stream.alarms import Alarm, raise_alarms, read_alarms
from stream.testing import MemoryLog
from stream.topics import create_topics

EVIDENCE = {"reason": "few accounts promote an item", "user_id": "ann@example.com", "user_ids": ["bob"], "accounts": 4}


def test_log_line_has_the_evidence_without_users(caplog: pytest.LogCaptureFixture) -> None:
    log = MemoryLog()
    create_topics(log)
    alarm = Alarm("shilling-1", 1, "actor", "poison", "shilling", EVIDENCE, "quarantine")
    with caplog.at_level(logging.WARNING):
        raise_alarms(log, [alarm])

    assert "few accounts promote an item" in caplog.text
    assert "'accounts': 4" in caplog.text
    assert not any(name in caplog.text for name in ("ann", "bob"))
    assert read_alarms(log) == [alarm]
