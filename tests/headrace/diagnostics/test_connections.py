"""Topics that differ from the settings are red, and nothing is created by looking."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace.diagnostics.connections import check_log, check_store, check_topics, open_existing_log
from headrace.diagnostics.installation import check_codecs
from stream.clock import SystemClock
from stream.config import DataSettings, LogSettings, Settings
from stream.drivers import open_log, open_store
from stream.logs import EventLog
from stream.topics import EVENTS, open_topics
from stream.worker.worker import StreamWorker
from tests.support.stream_harness import make_record


def make_settings(folder: Path, partitions: int = 1, url: str = "", prefix: str = "") -> Settings:
    return Settings(data=DataSettings(folder=folder), log=LogSettings(url=url, prefix=prefix, partitions=partitions))


def test_other_number_of_partitions_is_red(tmp_path: Path) -> None:
    open_topics(make_settings(tmp_path), SystemClock()).close()
    settings = make_settings(tmp_path, partitions=3)
    access = open_existing_log(settings, SystemClock())
    result = check_topics(access, settings)

    assert not result.ok
    assert "events: topic 'events'" in result.detail
    assert "has 1 partitions, expected 3" in result.detail
    assert result.fix


def test_missing_log_is_not_created(tmp_path: Path) -> None:
    settings = make_settings(tmp_path / "data")
    access = open_existing_log(settings, SystemClock())

    assert check_log(access).ok
    assert check_topics(access, settings).ok
    assert not (tmp_path / "data").exists()


@pytest.fixture
def prefix() -> str:
    return f"check-{uuid.uuid4().hex[:8]}-"


def test_looking_creates_no_topic_of_kafka(kafka_url: str, tmp_path: Path, prefix: str) -> None:
    settings = make_settings(tmp_path, url=kafka_url, prefix=prefix)
    access = open_existing_log(settings, SystemClock())
    results = check_log(access), check_topics(access, settings)
    assert access.log
    access.log.close()

    assert all(result.ok for result in results)
    log = open_log(kafka_url, prefix)
    with pytest.raises(ValueError, match="does not exist"):
        log.partitions(EVENTS)
    log.close()


def test_topic_of_a_platform_team_is_red_with_the_command_to_correct_it(
    kafka_url: str, tmp_path: Path, prefix: str
) -> None:
    log = open_log(kafka_url, prefix)
    log.create(EVENTS, 2, compacted=True)
    log.close()
    settings = make_settings(tmp_path, url=kafka_url, prefix=prefix)
    access = open_existing_log(settings, SystemClock())
    result = check_topics(access, settings)
    assert access.log
    access.log.close()

    assert not result.ok
    assert "2 partitions, expected 1" in result.detail
    assert f"--entity-name {prefix}events" in result.fix


@pytest.mark.parametrize("query", ["", "?client=confluent"])
def test_every_codec_of_kafka_is_readable(tmp_path: Path, query: str) -> None:
    result = check_codecs(make_settings(tmp_path, url=f"kafka://127.0.0.1:9092{query}"))

    assert result.ok
    assert "zstd" in result.detail


def process_events(log: EventLog, settings: Settings, count: int) -> None:
    now = SystemClock().now_ms()
    log.append(EVENTS, 0, [make_record(event_id=f"e{n}", item_id="a", ts=now) for n in range(count)])
    store = open_store(settings.store_url)
    worker = StreamWorker(log, store, settings)
    while worker.step(timeout=0) or log.committed(EVENTS, "stream")[0].offset < log.end_offset(EVENTS, 0):
        pass
    worker.close()
    store.close()


def remove_files(store: Path) -> None:
    for path in store.iterdir():
        path.unlink()


@pytest.mark.parametrize("remove", [remove_files, shutil.rmtree], ids=["files", "folder"])
def test_store_that_lost_events_is_red_until_they_are_back(tmp_path: Path, remove: Callable[[Path], None]) -> None:
    settings = make_settings(tmp_path)
    log = open_topics(settings, SystemClock())
    process_events(log, settings, 3)
    complete = check_store(settings, log)
    remove(tmp_path / "users")
    lost = check_store(settings, log)
    process_events(log, settings, 0)

    assert complete.ok
    assert not lost.ok
    assert "; it has lost 3 events that stream had processed" in lost.detail
    assert "start it if it does not" in lost.fix
    assert check_store(settings, log).ok
    log.close()


def test_store_of_a_longer_log_is_red(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    log = open_topics(settings, SystemClock())
    process_events(log, settings, 3)
    other = open_topics(make_settings(tmp_path / "other"), SystemClock())
    result = check_store(settings, other)
    log.close()
    other.close()

    assert not result.ok
    assert "it has partition 0 up to offset 3, but the log ends at 0" in result.detail
    assert "same backup" in result.fix
