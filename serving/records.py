"""Bodies of the HTTP API that the server encodes and the client decodes."""

from typing import Any

from msgspec import Struct


class RefusedRecord(Struct, frozen=True, omit_defaults=True):
    """An event or item that was rejected, by its index in the request."""

    index: int
    reason: str
    code: str = ""  # reason of the dead-letter record; items have none


class IngestResult(Struct, frozen=True):
    """Outcome of one request with events.

    `accepted` includes `repeated`: duplicates are in the log already and change nothing.
    """

    accepted: int
    repeated: int
    refused: list[RefusedRecord]


class PutResult(Struct, frozen=True):
    """Outcome of a request that writes items."""

    accepted: int
    refused: list[RefusedRecord]


class SimilarItem(Struct, frozen=True):
    """A neighbor of an item; higher scores are more similar."""

    item_id: str
    score: float


class SimilarItems(Struct, frozen=True):
    """Neighbors of an item, best first."""

    item_id: str
    items: list[SimilarItem]


class Lag(Struct, frozen=True):
    """Acknowledged events that recommendations do not reflect yet."""

    events: int
    partitions: dict[str, int]
    model_version: str


class HistoryEntry(Struct, frozen=True):
    """One event of a user."""

    item_id: str
    type: str
    ts: int  # ms
    event_id: str


class UserRecord(Struct, frozen=True):
    """State of a user: recent events, oldest first, counts of all events by type, attributes."""

    user_id: str
    history: list[HistoryEntry]
    counts: dict[str, int]
    attributes: dict[str, Any]
