"""Watch the user store for events that it has lost."""

import asyncio
import logging
from collections.abc import Mapping

from serving import metrics
from stream.logs import EventLog
from stream.process.errors import describe_error
from stream.process.outages import OutageLog
from stream.stores import UserStore
from stream.worker.store_position import count_missing, read_committed

_INTERVAL_S = 2.0
_logger = logging.getLogger(__name__)


class StoredUsers:
    """Events that stream has processed and the stored users lack, by partition.

    They are in the log: stream writes them to the store again.
    """

    def __init__(self, log: EventLog, store: UserStore) -> None:
        self._log = log
        self._store = store
        self._outage = OutageLog(_logger.warning, _logger.info)
        self.request_outage = OutageLog(_logger.error, _logger.info)  # of requests that need the log or the store
        self.missing: Mapping[int, int] = {}
        self.problem = ""  # reason that the store cannot be read, empty if it can

    @property
    def n_missing(self) -> int:
        return sum(self.missing.values())

    def measure(self) -> None:
        """Compare the store with the log; a server that is away leaves the count as it was."""
        try:
            committed = read_committed(self._log)
        except OSError:  # the reads of the model updates report it
            return
        try:
            self.missing, self.problem = count_missing(committed, self._store), ""
        except OSError as error:  # requests report it too
            self.problem = describe_error(error)
            return
        self.request_outage.end("requests reach the event log and the user store again")
        metrics.users_behind.set(self.n_missing)
        if self.missing:
            self._outage.report("the user store lacks %d events that stream has processed", self.n_missing)
        else:
            self._outage.end("the user store is complete again")

    async def watch(self) -> None:
        """Measure in a thread until this task is cancelled."""
        while True:
            await asyncio.to_thread(self.measure)
            await asyncio.sleep(_INTERVAL_S)
