"""Check that a log continues where the stored state ended, and report records that are gone."""

import logging
import zlib

from stream import metrics
from stream.alarms import Alarm, create_alarm_counters, raise_alarms
from stream.logs import EventLog, Records, TopicChanged
from stream.topics import EVENTS, EXAMPLES, USERS
from stream.worker.store_position import StorePosition

_ID_LENGTH = 12  # characters of a topic id that are stored
_GAP = "log_gap"
_USERS_GAP = "users_gap"
_WAY_OUT = (
    "restore log and user store from the same backup, or start over with another HEADRACE_LOG__PREFIX, "
    "HEADRACE_STORE__PREFIX and HEADRACE_DATA__FOLDER; see the section Replaced topics of docs/kafka.md"
)
_logger = logging.getLogger(__name__)


def short_topic_id(log: EventLog) -> str:
    """Id of the events topic, as positions of the store have it."""
    return log.topic_id(EVENTS)[:_ID_LENGTH]


def fingerprint(records: Records) -> str:
    """Checksum of the last record, to recognize it later; empty without records."""
    if not len(records):
        return ""
    return f"{zlib.crc32(records.values[-1] or b'', zlib.crc32(records.keys[-1] or b'')):08x}"


def check_continuity(log: EventLog, number: int, position: StorePosition) -> None:
    """Raise TopicChanged if a stored position belongs to another log, or to more of this one.

    The position is ahead of a log that was restored from an older copy. A replaced topic has another id; one that has
    grown past the position meanwhile has another record just before it.
    """
    topic_id = short_topic_id(log)
    if position.topic_id and topic_id and position.topic_id != topic_id:
        raise _changed(number, f"the topic events has the id {topic_id}, but users are of one with {position.topic_id}")
    reached = {EVENTS: position.next_offset, USERS: position.next_users_offset, EXAMPLES: position.examples_end}
    for topic, offset in reached.items():
        end = log.end_offset(topic, number)
        if offset > end:
            raise _changed(number, f"the topic {topic} was processed up to offset {offset}, but the log ends at {end}")
    if position.fingerprint and position.next_offset > log.start_offset(EVENTS, number):
        last = log.read(EVENTS, number, position.next_offset - 1, 1).before(position.next_offset)
        if len(last) and fingerprint(last) != position.fingerprint:
            detail = f"the record of events at offset {position.next_offset - 1} is another one than the last processed"
            raise _changed(number, detail)


def _changed(number: int, detail: str) -> TopicChanged:
    return TopicChanged(f"partition {number}: {detail}, so the log was replaced or restored: {_WAY_OUT}")


class GapReporter:
    """Report records of the events topic that were deleted before they were processed."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        create_alarm_counters([("stream", "poison", detector) for detector in (_GAP, _USERS_GAP)])

    def report(self, number: int, next_offset: int) -> int:
        """Return the offset to continue with: that of the oldest record if the given one is gone."""
        start = self._log.start_offset(EVENTS, number)
        if next_offset >= start:
            return next_offset
        metrics.records_lost.inc(start - next_offset)
        message = (
            "records of topic events at %d:%d to %d were deleted before they were processed: %d records; raise the "
            "retention of the topic, or run more stream workers"
        )
        _logger.error(message, number, next_offset, start - 1, start - next_offset)
        remedy = "processing continues behind the gap: send the events again, or restore them from a backup"
        reason = "retention deleted records before they were processed"
        raise_alarms(self._log, [_gap_alarm(self._log, _GAP, number, (next_offset, start), (reason, remedy))])
        return start

    def report_lost_users(self, number: int, stored_offset: int, next_offset: int) -> None:
        """Report processed events that the stored users lack and that the log no longer keeps."""
        end = min(self._log.start_offset(EVENTS, number), next_offset)
        if stored_offset >= end:
            return
        message = (
            "the user store lacks events of partition %d before offset %d that the log keeps no longer: %d records; "
            "restore the user store from a backup, or raise HEADRACE_LOG__RETENTION"
        )
        _logger.error(message, number, end, end - stored_offset)
        reason = "the user store has lost events that retention has deleted from the log"
        remedy = "users are rebuilt without them: restore the user store from a backup"
        raise_alarms(self._log, [_gap_alarm(self._log, _USERS_GAP, number, (stored_offset, end), (reason, remedy))])


def _gap_alarm(log: EventLog, detector: str, number: int, offsets: tuple[int, int], texts: tuple[str, str]) -> Alarm:
    """Alarm of records from an offset to another; the texts are reason and remedy."""
    (first, end), (reason, remedy) = offsets, texts
    oldest = log.read(EVENTS, number, end, 1)
    return Alarm(
        id=f"{detector}-{number}-{first}-{end}",
        ts=oldest.times[0] if len(oldest) else 0,
        depth="stream",
        kind="poison",
        detector=detector,
        evidence={
            "reason": reason,
            "topic": EVENTS,
            "partition": number,
            "first_offset": first,
            "next_offset": end,
            "records": end - first,
        },
        remedy=remedy,
    )
