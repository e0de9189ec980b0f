"""The topics, their shape, and the two records that machines exchange."""

from stream.clock import Clock
from stream.config import Settings
from stream.drivers import open_log
from stream.logs import EventLog

EVENTS, ITEMS, USERS, EXAMPLES = "events", "items", "users", "examples"
MODEL_UPDATES, DEAD_LETTER, QUARANTINE = "model-updates", "dead-letter", "quarantine"
CONTROL, ALARMS = "control", "alarms"


def open_topics(settings: Settings, clock: Clock) -> EventLog:
    """The log with every topic there; the first process to start makes them."""
    log = open_log(settings.log_url, settings.log.prefix, clock)
    partitions = settings.log.partitions
    log.create(EVENTS, partitions)
    log.create(EXAMPLES, partitions)
    log.create(USERS, partitions, compacted=True)
    log.create(ITEMS, 1, compacted=True)
    log.create(MODEL_UPDATES, 1, durable=False)
    for topic in (DEAD_LETTER, QUARANTINE, CONTROL, ALARMS):
        log.create(topic, 1)
    return log
