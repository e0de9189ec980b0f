"""One log line when an outage starts and one when it ends."""

import threading
from collections.abc import Callable


class OutageLog:
    """Log the start and the end of an outage, each once, instead of every failed attempt.

    >>> outage = OutageLog(print, print)
    >>> outage.report("the store is away"), outage.report("the store is away"), outage.end("the store answers")
    the store is away
    the store answers
    (None, None, None)
    """

    def __init__(self, log_start: Callable[..., None], log_end: Callable[..., None]) -> None:
        self._log_start, self._log_end = log_start, log_end
        self._lock = threading.Lock()
        self._is_out = False

    def report(self, *arguments: object) -> None:
        """Report a failure; only the first of an outage is logged."""
        with self._lock:
            is_new, self._is_out = not self._is_out, True
        if is_new:
            self._log_start(*arguments)

    def end(self, *arguments: object) -> None:
        """Report a success; only the first after an outage is logged."""
        if not self._is_out:
            return
        with self._lock:
            has_ended, self._is_out = self._is_out, False
        if has_ended:
            self._log_end(*arguments)
