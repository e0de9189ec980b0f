"""Delete old records from the log."""

from stream.clock import MINUTE_MS, Clock
from stream.config import Settings
from stream.logs import EventLog
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, QUARANTINE, USERS

_INTERVAL_MS = 10 * MINUTE_MS


class Retention:
    """Trim topics every ten minutes.

    The last block of examples stays, because a stream worker resumes there.
    """

    def __init__(self, log: EventLog, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._keep_ms = round(settings.log.retention * 1000)
        self._clock = clock
        self._next_run_ms = clock.now_ms() + _INTERVAL_MS

    def run_if_due(self) -> None:
        """Trim if the interval has passed."""
        now = self._clock.now_ms()
        if now < self._next_run_ms:
            return
        self._next_run_ms = now + _INTERVAL_MS
        self.trim(now - self._keep_ms)

    def trim(self, ts: int) -> None:
        """Delete records appended before `ts`, ms.

        In items and users, only those that newer records replace.
        """
        for topic in (EVENTS, DEAD_LETTER, QUARANTINE, ALARMS):
            self._log.trim_older(topic, ts)
        for partition in range(self._log.partitions(EXAMPLES)):
            offset = self._log.offset_for_time(EXAMPLES, partition, ts)
            self._log.trim(EXAMPLES, partition, min(offset, self._log.end_offset(EXAMPLES, partition) - 1))
        for topic in (ITEMS, USERS):
            self._log.compact(topic, ts)
