"""A log admits the learner of one folder only, also when two start together."""

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from online_models.training.learner_identity import FILE_NAME, OtherLearner, claim_log, describe_mismatch, read_id
from stream.clock import SystemClock
from stream.config import LogSettings, Settings
from stream.logs import EventLog
from stream.records.topic_registry import read_registry
from stream.topics import POSITIONED, open_topics


@pytest.fixture(params=["local", "kafka"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    is_kafka = request.param == "kafka"
    url = request.getfixturevalue("kafka_url") if is_kafka else f"local:{tmp_path / 'log'}"
    return Settings(log=LogSettings(url=url, prefix=f"identity-{os.getpid()}-{tmp_path.name}-"))


@pytest.fixture
def log(settings: Settings) -> Iterator[EventLog]:
    log = open_topics(settings, SystemClock())
    yield log
    log.close()


def test_learner_of_another_folder_is_refused_with_the_way_out(log: EventLog, tmp_path: Path) -> None:
    claim_log(log, tmp_path / "first")
    claim_log(log, tmp_path / "first")  # a restart
    with pytest.raises(OtherLearner) as refusal:
        claim_log(log, tmp_path / "second")

    assert f"learner {read_id(tmp_path / 'first')}" in str(refusal.value)
    assert "HEADRACE_DATA__FOLDER" in str(refusal.value)
    assert describe_mismatch(log, tmp_path / "second") == str(refusal.value)
    assert describe_mismatch(log, tmp_path / "first") == ""
    assert set(read_registry(log)) == set(POSITIONED)


def test_copied_folder_is_the_same_learner(log: EventLog, tmp_path: Path) -> None:
    claim_log(log, tmp_path / "first")
    shutil.copytree(tmp_path / "first", tmp_path / "restored")
    claim_log(log, tmp_path / "restored")

    assert read_id(tmp_path / "restored") == read_id(tmp_path / "first")


def test_new_folder_takes_over_after_the_id_is_written_into_it(log: EventLog, tmp_path: Path) -> None:
    claim_log(log, tmp_path / "lost")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / FILE_NAME).write_text(read_id(tmp_path / "lost") + "\n")
    claim_log(log, tmp_path / "new")


def test_one_of_two_learners_that_start_together_is_admitted(settings: Settings, tmp_path: Path) -> None:
    logs = [open_topics(settings, SystemClock()) for _ in range(4)]
    with ThreadPoolExecutor(len(logs)) as pool:
        claims = [pool.submit(claim_log, log, tmp_path / str(n)) for n, log in enumerate(logs)]
    errors = [claim.exception() for claim in claims]
    for log in logs:
        log.close()

    assert sum(error is None for error in errors) == 1
    assert sum(isinstance(error, OtherLearner) for error in errors) == 3
