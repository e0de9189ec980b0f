"""Report rejected records: dead-letter topic, metric, log lines and alarms."""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import numpy as np

from stream import metrics
from stream.alarms import Alarm, AlarmKind, create_alarm_counters, raise_alarms
from stream.logs import EventLog
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.timestamps import TS_UNIT
from stream.topics import DEAD_LETTER, EVENTS

_RATE_INTERVAL_S = 60.0  # between two lines with rates
_ALARM_INTERVAL_S = 3600.0  # between two alarms with the same reason and partition
# Rejections of one partition that raise an alarm: one shows a wrong partitioner, a few ids can be chance.
_ALARM_COUNTS = {"wrong_partition": 1, "conflicting_event_id": 10}
_ALARM_REASONS = {
    "wrong_partition": "a producer uses another partitioner than murmur2, or another key than user_id",
    "conflicting_event_id": "a producer uses event ids that are not unique among all events",
}
# Details that contain ids; a log line has none.
_LOGGED_DETAILS = {
    "bad_id": "an id is empty, above 256 bytes, or has a control character",
    "repeated_item": "items has an item more than once",
    "bad_user": "expected a user id as key and a JSON object as value",
}
_MIN_SECONDS, _MAX_SECONDS = 10**8, 10**10  # of the years 1973 to 2286
_KIND: AlarmKind = "poison"
_logger = logging.getLogger(__name__)


class RejectionReporter:
    """Write rejected records to the dead-letter topic, and count them.

    The log has one line for the first rejection of each reason and partition, then one line per minute with rates.
    """

    def __init__(self, log: EventLog, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._elapsed = elapsed
        self._seconds_logged: set[int] = set()  # partitions
        self._logged: set[tuple[str, int, str]] = set()  # topic, partition, reason
        self._counts: Counter[str] = Counter()  # by reason, since the last line with rates
        self._rates_logged_at = elapsed()
        self._alarm_counts: Counter[tuple[int, str]] = Counter()  # by partition and reason, since the last alarm
        self._alarms_raised_at: dict[tuple[int, str], float] = {}
        create_alarm_counters([("stream", _KIND, reason) for reason in _ALARM_COUNTS])
        for reason in _ALARM_COUNTS:
            metrics.dead_letter.labels(reason)  # at 0: the first rejection is an increase

    def report(
        self,
        partition: int,
        rejected: Sequence[RejectedEvent],
        already_reported: Collection[tuple[int, int]],
        ts: int,
        topic: str = EVENTS,
    ) -> None:
        """Report records of one partition, except those that a crashed process has dead-lettered.

        `already_reported`: their (offset, index). `ts`: time of the alarms, ms.
        """
        for event in rejected:
            metrics.dead_letter.labels(event.rejection.reason).inc()
            self._counts[event.rejection.reason] += 1
            self._log_first(topic, partition, event)
        unreported = [event for event in rejected if (event.offset, event.index) not in already_reported]
        if unreported:
            letters = [(None, encode_dead_letter(event, partition, topic)) for event in unreported]
            self._log.append(DEAD_LETTER, 0, letters)
            self._raise_alarms(topic, partition, unreported, ts)

    def warn_of_seconds(self, partition: int, ts: np.ndarray) -> None:
        """Log once per partition if accepted times, (n,) int64, look like seconds."""
        is_suspect = (ts >= _MIN_SECONDS) & (ts < _MAX_SECONDS)
        if is_suspect.any() and partition not in self._seconds_logged:
            self._seconds_logged.add(partition)
            message = (
                "%d of %d events of partition %d have a ts that looks like seconds, such as %d; ts is %s; they are "
                "accepted, since events.max_age is 0"
            )
            first = ts[is_suspect][0]
            _logger.warning(message, np.count_nonzero(is_suspect), ts.size, partition, first, TS_UNIT)

    def log_rates_if_due(self) -> None:
        """Log the number of rejections by reason, once per interval if there are any."""
        interval = self._elapsed() - self._rates_logged_at
        if interval < _RATE_INTERVAL_S:
            return
        self._rates_logged_at += interval
        if self._counts:
            counts = ", ".join(f"{reason} {count:,}" for reason, count in self._counts.most_common())
            _logger.warning("rejected %d records in %.0f s: %s", self._counts.total(), interval, counts)
            self._counts.clear()

    def _log_first(self, topic: str, partition: int, event: RejectedEvent) -> None:
        reason = event.rejection.reason
        if (topic, partition, reason) in self._logged:
            return
        self._logged.add((topic, partition, reason))
        message = "rejected a record of topic %s at %d:%d: %s: %s; it is in the topic dead-letter, further ones as well"
        detail = _LOGGED_DETAILS.get(reason, event.rejection.detail)
        _logger.warning(message, topic, partition, event.offset, reason, detail)

    def _raise_alarms(self, topic: str, partition: int, rejected: Sequence[RejectedEvent], ts: int) -> None:
        for event in rejected:
            reason = event.rejection.reason
            key = partition, reason
            self._alarm_counts[key] += 1
            raised_at = self._alarms_raised_at.get(key, float("-inf"))
            is_due = self._elapsed() - raised_at >= _ALARM_INTERVAL_S
            if reason in _ALARM_COUNTS and is_due and self._alarm_counts[key] >= _ALARM_COUNTS[reason]:
                self._alarms_raised_at[key] = self._elapsed()
                raise_alarms(self._log, [_rejection_alarm(topic, partition, event, self._alarm_counts.pop(key), ts)])


def _rejection_alarm(topic: str, partition: int, event: RejectedEvent, count: int, ts: int) -> Alarm:
    reason = event.rejection.reason
    evidence = {
        "reason": _ALARM_REASONS[reason],
        "topic": topic,
        "partition": partition,
        "offset": event.offset,
        "records": count,
    }
    return Alarm(
        id=f"{reason}-{topic}-{partition}-{event.offset}",
        ts=ts,
        depth="stream",
        kind=_KIND,
        detector=reason,
        evidence=evidence,
        remedy="the records are in dead-letter: correct the producer, then send them again",
    )
