"""Check that the log continues where a checkpoint ended."""

from online_models.training.progress import Progress
from online_models.versions.checkpoints import Manifest
from stream.logs import EventLog, TopicChanged
from stream.topics import CONTROL, EXAMPLES, ITEMS

_WAY_OUT = (
    "restore log and checkpoints from the same backup, or start over with another HEADRACE_LOG__PREFIX and "
    "HEADRACE_DATA__FOLDER; see the section Replaced topics of docs/kafka.md"
)


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
