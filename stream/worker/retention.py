"""Delete old records from the log."""

import logging
from collections.abc import Callable

from stream.clock import DAY_MS, HOUR_MS, Clock, elapsed_seconds
from stream.config import Settings
from stream.logs import EventLog
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, ITEMS, QUARANTINE, USERS

_INTERVAL_S = 600.0
_MAX_DRIFT_MS = HOUR_MS  # between the clock and the elapsed time; more is a jump
_TRUST_DELAY_S = 86_400.0  # after which a clock that has jumped ahead counts as right
_logger = logging.getLogger(__name__)


class Retention:
    """Trim topics every ten minutes.

    The last block of examples stays, because a stream worker resumes there. A clock that has jumped ahead would make
    every record look old. So after a jump, also one since the last record, nothing is deleted for a day.

    `elapsed`: seconds from any start, which no change of the clock moves, and which counts while the machine sleeps.
    """

    def __init__(
        self, log: EventLog, settings: Settings, clock: Clock, elapsed: Callable[[], float] = elapsed_seconds
    ) -> None:
        self._log = log
        self._keep_ms = round(settings.log.retention * 1000)
        self._clock = clock
        self._elapsed = elapsed
        self._last_ms, self._last_elapsed = clock.now_ms(), elapsed()
        self._next_run = self._last_elapsed + _INTERVAL_S
        self._trusted_from = self._last_elapsed
        newest_ms = _newest_time(log)
        if newest_ms is not None:
            self._distrust_after(self._last_ms - newest_ms, DAY_MS, "the newest event")

    def run_if_due(self) -> None:
        """Trim if the interval has passed."""
        elapsed = self._elapsed()
        if elapsed < self._next_run:
            return
        now, passed_ms = self._clock.now_ms(), (elapsed - self._last_elapsed) * 1000
        self._distrust_after(now - self._last_ms - passed_ms, _MAX_DRIFT_MS, "the time that has passed")
        self._last_ms, self._last_elapsed = now, elapsed
        self._next_run = elapsed + _INTERVAL_S
        if elapsed >= self._trusted_from:
            self.trim(now - self._keep_ms)

    def _distrust_after(self, ahead_ms: float, limit_ms: int, reference: str) -> None:
        """Postpone deletions if the clock is too far ahead of a reference."""
        if ahead_ms > limit_ms:
            self._trusted_from = self._elapsed() + _TRUST_DELAY_S
            message = "the clock is %.1f hours ahead of %s; retention deletes nothing for %.0f hours: correct the clock"
            _logger.warning(message, ahead_ms / HOUR_MS, reference, _TRUST_DELAY_S / 3600)

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


def _newest_time(log: EventLog) -> int | None:
    """Append time of the newest event, ms; None without events."""
    times = [log.read(EVENTS, partition, end - 1, 1).times for partition, end in log.end_offsets(EVENTS).items() if end]
    return max((column[0] for column in times if len(column)), default=None)
