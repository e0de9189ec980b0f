"""Rejected records, as the dead-letter topic keeps them."""

from dataclasses import dataclass

import msgspec

from stream.records.events import Refusal


@dataclass(frozen=True, slots=True)
class Refused:
    """An event that went to dead-letter, and where it stood."""

    offset: int
    index: int  # place in the record's array
    refusal: Refusal
    raw: bytes


def dead_letter(refused: Refused, partition: int | None) -> bytes:
    """A refusal as a record of the dead-letter topic; bytes that are no text are shown escaped."""
    return msgspec.json.encode(
        {
            "reason": refused.refusal.reason,
            "detail": refused.refusal.detail,
            "partition": partition,
            "offset": refused.offset if partition is not None else None,
            "index": refused.index,
            "raw": refused.raw.decode(errors="backslashreplace"),
        }
    )
