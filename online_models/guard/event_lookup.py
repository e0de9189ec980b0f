"""Read single events of the log again, by partition and offset."""

from collections.abc import Iterable, Iterator

from stream.logs import EventLog
from stream.records.events import Event, Limits, parse_record
from stream.topics import EVENTS

_NO_LIMITS = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)
_MAX_GAP = 256  # offsets without a requested event that one read still spans


def read_events(log: EventLog, positions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Event]]:
    """Events at some (partition, offset), in that order, each with its partition.

    Trimmed events are left out.
    """
    sorted_positions = sorted(set(positions))
    begin = 0
    for i in range(1, len(sorted_positions) + 1):
        is_last = i == len(sorted_positions)
        if is_last or not _is_near(sorted_positions[i - 1], sorted_positions[i]):
            yield from _read_run(log, sorted_positions[begin][0], [offset for _, offset in sorted_positions[begin:i]])
            begin = i


def _is_near(position: tuple[int, int], next_position: tuple[int, int]) -> bool:
    return position[0] == next_position[0] and next_position[1] <= position[1] + _MAX_GAP


def _read_run(log: EventLog, partition: int, offsets: list[int]) -> Iterator[tuple[int, Event]]:
    next_offset, end_offset, requested = offsets[0], offsets[-1] + 1, set(offsets)
    while next_offset < end_offset and len(
        records := log.read(EVENTS, partition, next_offset, end_offset - next_offset)
    ):
        for offset, value in zip(records.offsets, records.values, strict=True):
            if offset in requested:
                for event, _ in parse_record(value, _NO_LIMITS):
                    if isinstance(event, Event):
                        yield partition, event
        next_offset = records.offsets[-1] + 1
