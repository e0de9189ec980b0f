"""Topics of the event log, with their number of partitions."""

from typing import NamedTuple

from stream.clock import Clock
from stream.config import Settings
from stream.drivers import open_log
from stream.logs import EventLog
from stream.records.topic_registry import REGISTRY, check_topics, read_registry, register_topics

EVENTS, ITEMS, USERS, EXAMPLES = "events", "items", "users", "examples"
MODEL_UPDATES, DEAD_LETTER, QUARANTINE = "model-updates", "dead-letter", "quarantine"
CONTROL, ALARMS = "control", "alarms"
# Offsets of these are stored outside the log, in the user store, in checkpoints and by groups.
POSITIONED = (EVENTS, EXAMPLES, USERS, ITEMS, MODEL_UPDATES, CONTROL)


class TopicSpec(NamedTuple):
    """Topic as `EventLog.create` creates it."""

    topic: str
    partitions: int
    compacted: bool = False
    durable: bool = True


def topic_specs(partitions: int = 1) -> list[TopicSpec]:
    """All topics; `partitions` applies to events, examples and users."""
    return [
        TopicSpec(EVENTS, partitions),
        TopicSpec(EXAMPLES, partitions),
        TopicSpec(USERS, partitions, compacted=True),
        TopicSpec(ITEMS, 1, compacted=True),
        TopicSpec(MODEL_UPDATES, 1, durable=False),
        *(TopicSpec(topic, 1) for topic in (DEAD_LETTER, QUARANTINE, CONTROL, ALARMS)),
    ]


def create_topics(log: EventLog, partitions: int = 1) -> None:
    """Create the nine topics unless they exist.

    `partitions` applies to events, examples and users.
    """
    for spec in topic_specs(partitions):
        log.create(*spec)


def open_topics(settings: Settings, clock: Clock) -> EventLog:
    """Open the configured log with every topic; the first process to start creates them.

    TopicChanged if a topic was deleted, replaced or extended since.
    """
    log = open_log(settings.log_url, settings.log.prefix, clock)
    try:
        log.create(REGISTRY, 1)
        registered = read_registry(log)
        check_topics(log, registered)
        create_topics(log, settings.log.partitions)
        register_topics(log, POSITIONED, registered)
    except BaseException:
        log.close()
        raise
    return log
