"""Group commit: what many requests hand in at once becomes durable in one write."""

import asyncio
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from queue import SimpleQueue

from serving import metrics
from stream.ids import partition_of
from stream.logs import EventLog, Record
from stream.topics import EVENTS

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Handed:
    topic: str
    batches: dict[int, list[Record]]
    done: "asyncio.Future[dict[int, int]] | None" = field(default=None)


class Appender:
    """One thread writes; requests wait for it without holding up the others. Order of handing in is kept."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._queue: SimpleQueue[_Handed | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="appender", daemon=True)
        self._thread.start()

    async def append(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> dict[int, int]:
        """Append (id, value) records; durable when this returns, with the first offset by partition."""
        done: asyncio.Future[dict[int, int]] = asyncio.get_running_loop().create_future()
        self._queue.put(_Handed(topic, self._shared_out(topic, records), done))
        return await done

    def append_later(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> None:
        """Hand records in and go on: they stand before whatever is handed in after them."""
        self._queue.put(_Handed(topic, self._shared_out(topic, records)))

    def close(self) -> None:
        """Write what was handed in, then stop."""
        self._queue.put(None)
        self._thread.join()

    def _shared_out(self, topic: str, records: Sequence[tuple[str, bytes | None]]) -> dict[int, list[Record]]:
        partitions = self._log.partitions(topic)
        batches: dict[int, list[Record]] = {}
        for name, value in records:
            batches.setdefault(partition_of(name, partitions), []).append((name.encode(), value))
        return batches

    def _write(self) -> None:
        closing = False
        while not closing:
            handed = [self._queue.get()]
            while not self._queue.empty():
                handed.append(self._queue.get())
            closing = None in handed
            for topic, group in groupby((one for one in handed if one is not None), key=lambda one: one.topic):
                self._commit(topic, list(group))

    def _commit(self, topic: str, group: Sequence[_Handed]) -> None:
        together: dict[int, list[Record]] = {}
        for handed in group:
            for partition, records in handed.batches.items():
                together.setdefault(partition, []).extend(records)
        try:
            with metrics.append_seconds.time():
                first = dict(self._log.append_many(topic, together)) if together else {}
        except Exception as error:
            _logger.error("%s not written: %s", topic, error)
            for handed in group:
                _tell(handed, error)
            return
        for handed in group:
            _tell(handed, {partition: first[partition] for partition in handed.batches})
            for partition, records in handed.batches.items():
                first[partition] += len(records)


def _tell(handed: _Handed, outcome: dict[int, int] | Exception) -> None:
    done = handed.done
    if done is None:
        if isinstance(outcome, Exception) and handed.topic == EVENTS:
            metrics.impressions_lost.inc()
        return
    done.get_loop().call_soon_threadsafe(_settle, done, outcome)


def _settle(done: "asyncio.Future[dict[int, int]]", outcome: dict[int, int] | Exception) -> None:
    if done.done():  # whoever waited has gone
        return
    if isinstance(outcome, Exception):
        done.set_exception(outcome)
    else:
        done.set_result(outcome)
