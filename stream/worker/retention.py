"""Retention: what the log forgets in time."""

from stream.clock import Clock
from stream.config import Settings
from stream.logs import EventLog
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, QUARANTINE, USERS

_INTERVAL_MS = 600_000


class Retention:
    """Trims topics now and then. The last block of examples always stays: a stream worker goes on from it."""

    def __init__(self, log: EventLog, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._keep_ms = round(settings.log.retention * 1000)
        self._clock = clock
        self._next_run_ms = clock.now_ms() + _INTERVAL_MS

    def run_if_due(self) -> None:
        """Trim, if it is time to."""
        now = self._clock.now_ms()
        if now < self._next_run_ms:
            return
        self._next_run_ms = now + _INTERVAL_MS
        self.trim(now - self._keep_ms)

    def trim(self, ts: int) -> None:
        """Forget what was appended before `ts`, ms; of items and users only what newer ones replace."""
        for topic in (EVENTS, DEAD_LETTER, QUARANTINE, ALARMS):
            self._log.trim_older(topic, ts)
        for partition in range(self._log.partitions(EXAMPLES)):
            offset = self._log.offset_for_time(EXAMPLES, partition, ts)
            self._log.trim(EXAMPLES, partition, min(offset, self._log.end_offset(EXAMPLES, partition) - 1))
        for topic in (ITEMS, USERS):
            self._log.compact(topic, ts)
