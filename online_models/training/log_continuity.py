"""Check that the log continues where a checkpoint ended, and report a gap."""

import logging

from online_models import metrics
from online_models.training.progress import Progress
from online_models.versions.checkpoints import Manifest
from stream.alarms import Alarm, raise_alarms
from stream.logs import EventLog, TopicChanged
from stream.topics import CONTROL, EXAMPLES, ITEMS

_WAY_OUT = (
    "restore log and checkpoints from the same backup, or start over with another HEADRACE_LOG__PREFIX and "
    "HEADRACE_DATA__FOLDER; see the section Replaced topics of docs/kafka.md"
)
_logger = logging.getLogger(__name__)


def check_log_continues(log: EventLog, progress: Progress, manifest: Manifest | None) -> None:
    """Raise TopicChanged if the model was trained on another log, or on more of this one."""
    topic_id = log.topic_id(EXAMPLES)
    if manifest and manifest.examples_topic and topic_id and manifest.examples_topic != topic_id:
        raise TopicChanged(
            f"the topic examples has the id {topic_id}, but checkpoint {manifest.version} was trained on one with "
            f"{manifest.examples_topic}, so the log was replaced: {_WAY_OUT}"
        )
    ends = log.end_offsets(EXAMPLES)
    reached = {(EXAMPLES, partition): offset for partition, offset in progress.example_offsets.items()}
    reached |= {(ITEMS, 0): progress.items_offset, (CONTROL, 0): progress.control_offset}
    for (topic, partition), offset in reached.items():
        end = ends.get(partition, 0) if topic == EXAMPLES else log.end_offset(topic, partition)
        if offset > end:
            raise TopicChanged(
                f"the model was trained up to offset {offset} of topic {topic}, partition {partition}, but the log "
                f"ends at {end}, so it was replaced or restored: {_WAY_OUT}"
            )


def report_lost_blocks(log: EventLog, progress: Progress) -> None:
    """Report blocks that retention deleted before training; it continues behind them."""
    for partition, offset in sorted(progress.example_offsets.items()):
        start = log.start_offset(EXAMPLES, partition)
        if start <= offset:
            continue
        metrics.blocks_lost.inc(start - offset)
        message = (
            "blocks of topic examples at %d:%d to %d were deleted before they were trained on; raise log.retention"
        )
        _logger.error(message, partition, offset, start - 1)
        raise_alarms(log, [_gap_alarm(log, partition, offset, start)])


def _gap_alarm(log: EventLog, partition: int, first: int, end: int) -> Alarm:
    oldest = log.read(EXAMPLES, partition, end, 1)
    return Alarm(
        id=f"log_gap-examples-{partition}-{first}-{end}",
        ts=oldest.times[0] if len(oldest) else 0,
        depth="learner",
        kind="poison",
        detector="log_gap",
        evidence={
            "reason": "retention deleted examples before they were trained on",
            "topic": EXAMPLES,
            "partition": partition,
            "first_offset": first,
            "next_offset": end,
            "blocks": end - first,
        },
        remedy="training continues behind the gap",
    )
