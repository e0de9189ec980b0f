"""A worker refuses a log that does not continue its state, and reports gaps."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from stream.alarms import read_alarms
from stream.clock import ManualClock
from stream.config import LogSettings, Settings
from stream.drivers import open_log, open_store
from stream.ids import hash_id
from stream.logs import EventLog, TopicChanged
from stream.topics import EVENTS, EXAMPLES, USERS, open_topics
from stream.users.profiles import decode_profile
from stream.worker.store_position import StorePosition
from stream.worker.worker import StreamWorker
from tests.support.events import START
from tests.support.stream_harness import StreamHarness, make_record, make_settings


def make_folder_settings(folder: Path, partitions: int = 1) -> Settings:
    return Settings(log=LogSettings(url=f"local:{folder}/log", partitions=partitions))


def append_events(log: EventLog, count: int, first: int = 0) -> None:
    log.append(EVENTS, 0, [make_record(event_id=f"e{first + i}", item_id="a") for i in range(count)])


def run_worker(folder: Path, log: EventLog) -> None:
    store = open_store(f"local:{folder}/users")
    worker = StreamWorker(log, store, make_folder_settings(folder))
    while worker.step(timeout=0) or log.committed(EVENTS, "stream")[0].offset < log.end_offset(EVENTS, 0):
        pass
    worker.close()
    store.close()


def open_folder(folder: Path) -> EventLog:
    return open_topics(make_folder_settings(folder), ManualClock(START + 9_000))


def process_events(folder: Path, count: int, first: int = 0) -> None:
    log = open_folder(folder)
    append_events(log, count, first)
    run_worker(folder, log)
    log.close()


def remove_topic(folder: Path, topic: str) -> None:
    for path in (folder / "log").glob(f"{topic}.topic.db*"):
        path.unlink()


@pytest.mark.parametrize("topic", [EVENTS, EXAMPLES, USERS, "items", "control", "model-updates"])
def test_deleted_topic_is_refused(tmp_path: Path, topic: str) -> None:
    process_events(tmp_path, 3)
    remove_topic(tmp_path, topic)

    for _ in range(2):  # it is not created again behind the operator's back
        with pytest.raises(TopicChanged, match=f"topic '{topic}' was deleted.*HEADRACE_LOG__PREFIX"):
            open_folder(tmp_path)


def test_replaced_topic_that_has_grown_is_refused(tmp_path: Path) -> None:
    process_events(tmp_path, 3)
    remove_topic(tmp_path, EVENTS)
    log = open_log(f"local:{tmp_path}/log", clock=ManualClock(START))
    log.create(EVENTS, 1)
    append_events(log, 5, first=50)
    log.close()

    with pytest.raises(TopicChanged, match=r"topic 'events' was deleted and created again.*HEADRACE_STORE__PREFIX"):
        open_folder(tmp_path)


def test_replaced_log_is_refused_by_the_worker(tmp_path: Path) -> None:
    process_events(tmp_path, 3)
    shutil.rmtree(tmp_path / "log")
    log = open_folder(tmp_path)
    append_events(log, 5, first=50)

    with pytest.raises(TopicChanged, match=r"the topic events has the id \w+, but users are of one with"):
        run_worker(tmp_path, log)
    log.close()


def test_topic_file_that_is_replaced_while_in_use_is_refused(tmp_path: Path) -> None:
    process_events(tmp_path, 3)
    log = open_folder(tmp_path)
    source = log.open_source(EVENTS, None)
    source.next_batch(10, timeout=0)
    remove_topic(tmp_path, EVENTS)
    for _ in range(2):
        with pytest.raises(OSError, match=r"moved, deleted or replaced while it is in use; .*events\.topic\.db"):
            append_events(log, 1, first=9)
        with pytest.raises(OSError, match="moved, deleted or replaced while it is in use"):
            source.next_batch(10, timeout=0)
        other = open_log(f"local:{tmp_path}/log", clock=ManualClock(START))
        other.create(EVENTS, 1)  # as another process does
        other.close()
    log.close()


def copy_log(folder: Path, backup: Path) -> None:
    shutil.copytree(folder / "log", backup)


def restore_log(folder: Path, backup: Path, pattern: str) -> None:
    for path in (folder / "log").glob(pattern):
        path.unlink()
    for path in backup.glob(pattern):
        shutil.copy(path, folder / "log")


@pytest.mark.parametrize("growth", [0, 1, 20])
@pytest.mark.parametrize("pattern", ["*", "events.topic.db*", "examples.topic.db*"])
def test_log_of_an_older_backup_is_refused(tmp_path: Path, pattern: str, growth: int) -> None:
    process_events(tmp_path, 3)
    copy_log(tmp_path, tmp_path / "backup")
    process_events(tmp_path, 2, first=3)
    restore_log(tmp_path, tmp_path / "backup", pattern)
    log = open_folder(tmp_path)
    if pattern != "examples.topic.db*":
        append_events(log, growth, first=50)  # accepted over HTTP before the worker starts

    with pytest.raises((TopicChanged, ValueError), match="restore"):
        run_worker(tmp_path, log)
    log.close()


def test_position_of_an_older_version_stays_readable() -> None:
    position = StorePosition.parse("7 0 2")

    assert position == StorePosition(7, 0, 2)
    assert position.text == "7 0 2"
    assert position.with_users_offset(4).text == "7 4 2 - -"
    assert StorePosition.parse(StorePosition(7, 4, 2, "abc", "0123").text) == StorePosition(7, 4, 2, "abc", "0123")
    assert StorePosition.parse("").text == ""


def lost_records() -> float:
    return REGISTRY.get_sample_value("headrace_stream_records_lost_total") or 0.0


def trim_while_stopped(harness: StreamHarness) -> None:
    harness.restart()
    append_events(harness.log, 7, first=3)
    harness.log.trim(EVENTS, 0, 6)


def trim_while_running(harness: StreamHarness) -> None:
    append_events(harness.log, 7, first=3)
    harness.log.trim(EVENTS, 0, 6)


@pytest.mark.parametrize("trim", [trim_while_stopped, trim_while_running])
def test_gap_behind_retention_is_reported(
    trim: Callable[[StreamHarness], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = lost_records()
    harness = StreamHarness(make_settings(partitions=1))
    append_events(harness.log, 3)
    harness.catch_up()
    trim(harness)
    harness.catch_up()
    (alarm,) = read_alarms(harness.log)

    assert decode_profile(harness.read_users()[hash_id("u1")]).counts.sum() == 7
    assert lost_records() == before + 3
    assert "records of topic events at 0:3 to 5 were deleted before they were processed: 3 records" in caplog.text
    assert (alarm.depth, alarm.detector, alarm.evidence["first_offset"], alarm.evidence["next_offset"]) == (
        "stream",
        "log_gap",
        3,
        6,
    )
