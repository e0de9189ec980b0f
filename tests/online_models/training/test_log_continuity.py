"""A learner refuses a log that does not continue its model, and reports a gap."""

import pytest
from prometheus_client import REGISTRY

from online_models.training.log_continuity import check_log_continues, report_lost_blocks
from online_models.training.progress import Progress
from online_models.versions.checkpoints import Manifest
from stream.alarms import read_alarms
from stream.logs import EventLog, TopicChanged
from stream.testing import memory_system
from stream.topics import EXAMPLES


@pytest.fixture
def log() -> EventLog:
    event_log = memory_system(partitions=2).log
    event_log.append(EXAMPLES, 1, [(None, b"block")] * 5)
    return event_log


def make_manifest(examples_topic: str) -> Manifest:
    return Manifest(
        version="000001-000000007", epoch=1, step=7, parent=None, created=0, example_offsets={}, offsets={},
        examples_topic=examples_topic,
    )  # fmt: skip


@pytest.mark.parametrize("topic_id", ["", "memory-examples"])
def test_same_log_is_accepted(log: EventLog, topic_id: str) -> None:
    check_log_continues(log, Progress(example_offsets={1: 5}), make_manifest(topic_id))
    check_log_continues(log, Progress(), None)


def test_other_examples_topic_is_refused(log: EventLog) -> None:
    with pytest.raises(
        TopicChanged, match=r"000001-000000007 was trained on one with other.*restore log and checkpoints"
    ):
        check_log_continues(log, Progress(), make_manifest("other"))


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(example_offsets={1: 6}), "offset 6 of topic examples, partition 1, but the log ends at 5"),
        (Progress(items_offset=1), "offset 1 of topic items"),
        (Progress(control_offset=1), "offset 1 of topic control"),
    ],
)
def test_model_ahead_of_its_log_is_refused(log: EventLog, progress: Progress, text: str) -> None:
    with pytest.raises(TopicChanged, match=text):
        check_log_continues(log, progress, None)


def test_lost_blocks_are_reported(log: EventLog, caplog: pytest.LogCaptureFixture) -> None:
    before = REGISTRY.get_sample_value("headrace_learn_blocks_lost_total") or 0.0
    report_lost_blocks(log, Progress(example_offsets={0: 0, 1: 1}))
    assert not caplog.text
    log.trim(EXAMPLES, 1, 4)
    report_lost_blocks(log, Progress(example_offsets={0: 0, 1: 1}))
    (alarm,) = read_alarms(log)

    assert REGISTRY.get_sample_value("headrace_learn_blocks_lost_total") == before + 3
    assert "blocks of topic examples at 1:1 to 3 were deleted before they were trained on" in caplog.text
    assert (alarm.depth, alarm.detector, alarm.evidence["blocks"]) == ("learner", "log_gap", 3)
