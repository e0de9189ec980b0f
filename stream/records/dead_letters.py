"""Rejected records, as the dead-letter topic keeps them."""

from dataclasses import dataclass

import msgspec

from stream.records.events import Rejection


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that went to dead-letter, and where it stood."""

    offset: int
    index: int  # place in the record's array
    rejection: Rejection
    raw: bytes


def encode_dead_letter(event: RejectedEvent, partition: int | None) -> bytes:
    """A refusal as a record of the dead-letter topic; bytes that are no text are shown escaped."""
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
