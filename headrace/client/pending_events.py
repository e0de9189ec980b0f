"""Events that wait until the server has accepted them, in order and bounded."""

import threading
from collections import deque
from dataclasses import dataclass, replace
from itertools import islice

from headrace.client.errors import BufferFull
from serving.records import IngestResult, RefusedRecord

_BATCH_BYTES = 1 << 20  # of one request; servers take at least as much


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """Size and pace of a buffer."""

    max_events: int = 10_000  # that wait; the next one raises BufferFull
    batch_events: int = 500  # of one request, at most
    interval_s: float = 1.0  # between requests, unless a batch is full


@dataclass(frozen=True, slots=True)
class BufferCounts:
    """Events of a buffer by outcome: added = accepted + refused + waiting."""

    added: int = 0
    accepted: int = 0  # durable, repeats included
    refused: int = 0  # by the server, each with a reason
    waiting: int = 0
    failures: int = 0  # requests in the background; their events wait for the next one


class PendingEvents:
    """Keep each event until the server has taken or refused it; threads may share it."""

    def __init__(self, settings: BufferSettings) -> None:
        self._settings = settings
        self._events: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._counts = BufferCounts()
        self.last_refusal: RefusedRecord | None = None

    def add(self, event: bytes) -> bool:
        """Append an event, as JSON text; True if a batch is full. `BufferFull` if too many wait."""
        with self._lock:
            if len(self._events) >= self._settings.max_events:
                limit = self._settings.max_events
                raise BufferFull(f"{limit} events wait for the server; at most {limit}: retry later, or keep the event")
            self._events.append(event)
            self._counts = replace(self._counts, added=self._counts.added + 1)
            return len(self._events) >= self._settings.batch_events

    def next_batch(self) -> list[bytes]:
        """Oldest events, at most 1 MiB; they stay until `settle`."""
        batch: list[bytes] = []
        n_bytes = 0
        with self._lock:
            for event in islice(self._events, self._settings.batch_events):
                n_bytes += len(event) + 1
                if batch and n_bytes > _BATCH_BYTES:
                    break
                batch.append(event)
        return batch

    def settle(self, n_events: int, result: IngestResult) -> None:
        """Remove the oldest events, which the server has taken or refused."""
        with self._lock:
            for _ in range(n_events):
                self._events.popleft()
            accepted, refused = self._counts.accepted + result.accepted, self._counts.refused + len(result.refused)
            self._counts = replace(self._counts, accepted=accepted, refused=refused)
            self.last_refusal = result.refused[-1] if result.refused else self.last_refusal

    def count_failure(self) -> None:
        with self._lock:
            self._counts = replace(self._counts, failures=self._counts.failures + 1)

    @property
    def counts(self) -> BufferCounts:
        with self._lock:
            return replace(self._counts, waiting=len(self._events))

    def list_waiting(self) -> list[bytes]:
        with self._lock:
            return list(self._events)
