"""Events as they stand in the log, for their names: columns hold keys alone."""

from collections.abc import Iterable, Iterator

from stream.events import Event, Limits, parse_record
from stream.logs import EventLog
from stream.topics import EVENTS

_ANY = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)
_APART = 256  # offsets that are read in one go though nothing between them is wanted


def events_at(log: EventLog, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Event]]:
    """The events at some (partition, offset), in that order, each with its partition; what is no longer kept is not."""
    wanted = sorted(set(places))
    begin = 0
    for i in range(1, len(wanted) + 1):
        if i == len(wanted) or wanted[i][0] != wanted[begin][0] or wanted[i][1] > wanted[i - 1][1] + _APART:
            yield from _run(log, wanted[begin][0], [offset for _, offset in wanted[begin:i]])
            begin = i


def _run(log: EventLog, partition: int, offsets: list[int]) -> Iterator[tuple[int, Event]]:
    at, chosen = offsets[0], set(offsets)
    while at <= offsets[-1] and len(records := log.read(EVENTS, partition, at, offsets[-1] + 1 - at)):
        for offset, value in zip(records.offsets, records.values, strict=True):
            if offset in chosen:
                yield from ((partition, one) for one, _ in parse_record(value, _ANY) if isinstance(one, Event))
        at = records.offsets[-1] + 1
