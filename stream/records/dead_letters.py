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


def describe_misplaced(owner: int, partition: int, partitions: int) -> str:
    """Detail of a rejection because of the partition."""
    return (
        f"the user belongs to partition {owner} by murmur2 of user_id, but the record is in partition {partition} of "
        f"{partitions}: use user_id as the key, and partitioner=murmur2_random with librdkafka"
    )


def encode_dead_letter(event: RejectedEvent, partition: int | None, topic: str = "events") -> bytes:
    """Encode a rejected event for the dead-letter topic; bytes that are not UTF-8 are escaped.

    `topic`: of the record; `partition`: None for an event that was rejected before it was in a topic.
    """
    return msgspec.json.encode(
        {
            "topic": topic,
            "reason": event.rejection.reason,
            "detail": event.rejection.detail,
            "partition": partition,
            "offset": event.offset if partition is not None else None,
            "index": event.index,
            "raw": event.raw.decode(errors="backslashreplace"),
        }
    )
