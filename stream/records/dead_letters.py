"""Rejected events as records of the dead-letter topic."""

from dataclasses import dataclass

import msgspec

from stream.records.events import Rejection


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """Rejected event with its position in the log."""

    offset: int
    index: int  # position in the record's array
    rejection: Rejection
    raw: bytes


def encode_dead_letter(event: RejectedEvent, partition: int | None) -> bytes:
    """Encode a rejected event for the dead-letter topic; bytes that are not UTF-8 are escaped."""
    return msgspec.json.encode(
        {
            "reason": event.rejection.reason,
            "detail": event.rejection.detail,
            "partition": partition,
            "offset": event.offset if partition is not None else None,
            "index": event.index,
            "raw": event.raw.decode(errors="backslashreplace"),
        }
    )
