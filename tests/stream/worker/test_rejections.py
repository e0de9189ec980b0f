"""Rejected records are dead-lettered, counted, logged once per reason, and raise alarms."""

import msgspec
import pytest
from prometheus_client import REGISTRY

from stream.alarms import read_alarms
from stream.ids import partition_for_id
from stream.records.dead_letters import RejectedEvent
from stream.records.events import Rejection
from stream.testing import memory_system
from stream.topics import DEAD_LETTER, USERS
from stream.users.profiles import decode_profile
from stream.worker.rejections import RejectionReporter
from tests.support.events import START
from tests.support.stream_harness import StreamHarness, make_record, make_settings

OWN = partition_for_id("u1", 4)
OTHER = (OWN + 1) % 4


def count_dead_letters(reason: str) -> float:
    return REGISTRY.get_sample_value("headrace_dead_letter_total", {"reason": reason}) or 0.0


def read_letters(harness: StreamHarness) -> list[tuple[str, int, int, str]]:
    letters = [msgspec.json.decode(letter) for letter in harness.read_dead_letters()]
    return sorted((letter["topic"], letter["partition"], letter["offset"], letter["reason"]) for letter in letters)


def test_event_in_another_partition_is_rejected(caplog: pytest.LogCaptureFixture) -> None:
    before = count_dead_letters("wrong_partition")
    harness = StreamHarness(make_settings(partitions=4))
    records = [make_record(event_id=f"e{i}", item_id="a") for i in range(5)]
    harness.write_records({OWN: records[:2], OTHER: records[2:]})
    harness.catch_up()

    assert [decode_profile(value).counts.sum() for value in harness.read_users().values()] == [2]
    assert read_letters(harness) == [("events", OTHER, i, "wrong_partition") for i in range(3)]
    assert count_dead_letters("wrong_partition") == before + 3
    (line,) = [record.getMessage() for record in caplog.records if "rejected a record" in record.getMessage()]
    assert f"partition {OTHER} of 4: use user_id as the key, and partitioner=murmur2_random" in line
    (alarm,) = read_alarms(harness.log)
    assert (alarm.depth, alarm.detector, alarm.evidence["partition"]) == ("stream", "wrong_partition", OTHER)


def test_user_record_in_another_partition_is_rejected_once() -> None:
    harness = StreamHarness(make_settings(partitions=4))
    harness.write_records({OTHER: [(b"u1", b'{"age":7}'), (b"u1", None)], OWN: [(b"u1", b'{"age":8}')]}, USERS)
    harness.catch_up()
    harness.store.clear()  # recovery reads the users topic again
    harness.restart()
    harness.catch_up()

    assert [decode_profile(value).attributes for value in harness.read_users().values()] == [b'{"age":8}']
    assert read_letters(harness) == [("users", OTHER, offset, "wrong_partition") for offset in range(2)]
    letter = msgspec.json.decode(harness.log.read(DEAD_LETTER, 0, 0, 1).values[0] or b"")
    assert letter["raw"] == 'u1\t{"age":7}'


@pytest.mark.parametrize("changes", [{"user_id": "u2"}, {"item_id": "b"}, {"type": "like"}, {"ts": START + 1}])
def test_repeated_id_with_other_content_is_rejected(changes: dict[str, object]) -> None:
    harness = StreamHarness(make_settings(partitions=1))
    first = make_record(item_id="a")
    conflict = make_record(**{"item_id": "a"} | changes)
    harness.write_records({0: [first, first, conflict]})
    harness.catch_up()
    harness.restart()  # the ids are restored from the examples topic
    harness.write_records({0: [first, conflict]})
    harness.catch_up()

    assert read_letters(harness) == [("events", 0, offset, "conflicting_event_id") for offset in (2, 4)]
    assert len(harness.read_rows(0)) == 1


@pytest.mark.parametrize(("scale", "lines"), [(1, 0), (1000, 1)])
def test_accepted_seconds_are_logged_once(caplog: pytest.LogCaptureFixture, scale: int, lines: int) -> None:
    harness = StreamHarness(make_settings(partitions=1))
    for i in range(3):
        harness.write_records({0: [make_record(event_id=f"e{i}", item_id="a", ts=START // scale)]})
        harness.catch_up()

    assert len(harness.read_rows(0)) == 3
    assert caplog.text.count("1 of 1 events of partition 0 have a ts that looks like seconds") == lines


def make_rejections(count: int, reason: str, first: int = 0) -> list[RejectedEvent]:
    return [RejectedEvent(first + i, 0, Rejection(reason, f"detail of {reason}"), b"{}") for i in range(count)]


def test_log_has_the_first_rejection_of_each_reason_then_rates(caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    reporter = RejectionReporter(memory_system().log, lambda: now[0])
    for i in range(30):
        reporter.report(0, make_rejections(100, "too_old", i * 100), (), START)
        reporter.report(0, make_rejections(1, "not_json", i), (), START)
        reporter.log_rates_if_due()
        now[0] += 4.1
    lines = [record.getMessage() for record in caplog.records]

    assert [line.split(":")[2].strip() for line in lines[:2]] == ["too_old", "not_json"]
    assert lines[2:] == ["rejected 1616 records in 61 s: too_old 1,600, not_json 16"]


def test_log_lines_have_no_ids(caplog: pytest.LogCaptureFixture) -> None:
    harness = StreamHarness(make_settings(partitions=1))
    harness.write_records({0: [make_record(user_id="secret\nname", item_id="a"), (b"k", b'{"user_id":"secret"}')]})
    harness.write_records({0: [(b"secret\n", b"{}"), (b"secret", b"no json")]}, USERS)
    harness.catch_up()

    assert len(read_letters(harness)) == 4
    assert "secret" not in caplog.text


def test_alarms_of_one_reason_are_an_hour_apart() -> None:
    log, now = memory_system().log, [0.0]
    reporter = RejectionReporter(log, lambda: now[0])
    for i in range(50):
        reporter.report(3, make_rejections(1, "conflicting_event_id", i), (), START)
        reporter.report(3, make_rejections(1, "too_old", i), (), START)
        now[0] += 120

    assert [(alarm.detector, alarm.evidence["records"]) for alarm in read_alarms(log)] == [
        ("conflicting_event_id", 10),
        ("conflicting_event_id", 30),
    ]


def test_alarm_after_a_crash_is_not_repeated() -> None:
    log = memory_system().log
    rejected = make_rejections(3, "wrong_partition")
    RejectionReporter(log).report(0, rejected, (), START)
    RejectionReporter(log).report(0, rejected, {(0, 0), (1, 0), (2, 0)}, START)

    assert len(read_alarms(log)) == 1
    assert log.end_offset(DEAD_LETTER, 0) == 3
