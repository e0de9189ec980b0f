"""Topics of the event log, with their number of partitions."""

from stream.clock import Clock
from stream.config import Settings
from stream.drivers import open_log
from stream.logs import EventLog

EVENTS, ITEMS, USERS, EXAMPLES = "events", "items", "users", "examples"
MODEL_UPDATES, DEAD_LETTER, QUARANTINE = "model-updates", "dead-letter", "quarantine"
CONTROL, ALARMS = "control", "alarms"


def create_topics(log: EventLog, partitions: int = 1) -> None:
    """Create the nine topics unless they exist.

    `partitions` applies to events, examples and users.
    """
    log.create(EVENTS, partitions)
    log.create(EXAMPLES, partitions)
    log.create(USERS, partitions, compacted=True)
    log.create(ITEMS, 1, compacted=True)
    log.create(MODEL_UPDATES, 1, durable=False)
    for topic in (DEAD_LETTER, QUARANTINE, CONTROL, ALARMS):
        log.create(topic, 1)


def open_topics(settings: Settings, clock: Clock) -> EventLog:
    """Open the configured log with every topic; the first process to start creates them."""
    log = open_log(settings.log_url, settings.log.prefix, clock)
    create_topics(log, settings.log.partitions)
    return log
