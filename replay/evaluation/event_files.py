"""Read recorded events and catalogs of any format for an evaluation."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from replay.files.kinds import ParsedLines
from replay.files.options import ReadOptions
from replay.files.reading import RecordReader
from replay.files.sorting import EventSorter
from replay.files.sources.tables import Refusal
from stream.records.events import Event, Rejection

Progress = Callable[[int, int | None], None]


@dataclass(slots=True)
class Refusals:
    """Records that were refused, by reason."""

    reasons: Counter[str] = field(default_factory=Counter)
    first: str = ""

    def add(self, path: str, unit: str, refused: Sequence[Refusal]) -> None:
        for refusal in sorted(refused, key=lambda refusal: refusal.place):
            self.reasons[refusal.rejection.reason] += 1
            place = f"{path}: {unit} {refusal.place}" if refusal.place else path
            self.first = self.first or f"{place}: {refusal.rejection.detail}"


class EventFiles:
    """Events of several files as one log in time order.

    ValueError: an event is earlier than the one before it, unless the options say to sort.
    """

    def __init__(self, paths: Sequence[str], options: ReadOptions, min_value: float | None = None) -> None:
        self._paths = paths
        self._options = options
        self._min_value = min_value
        self._latest_ts = 0
        self.refusals = Refusals()

    def count(self, progress: Progress) -> tuple[int, Callable[[Progress], Iterator[bytes]]]:
        """Count the events, and return a function that then reads them.

        It reads them from memory if standard input is among the files.
        """
        if "-" in self._paths:
            lines = list(self.read_lines(progress))
            return len(lines), lambda progress: iter(lines)
        twin = EventFiles(self._paths, self._options, self._min_value)  # counts refusals of its own
        return sum(1 for _ in twin.read_lines(progress)), self.read_lines

    def read_lines(self, progress: Progress) -> Iterator[bytes]:
        """Yield the JSON lines of the events.

        `progress` gets the bytes read and their total or None.
        """
        sizes = [0 if path == "-" else Path(path).stat().st_size for path in self._paths]
        total = sum(sizes) if all(sizes) else None
        sorter = EventSorter() if self._options.sort else None
        for number, path in enumerate(self._paths):
            reader = RecordReader(path, self._options)
            for batch in reader.batches():
                progress(sum(sizes[:number]) + reader.file.position, total)
                self._refuse(path, reader.unit, batch.parsed)
                rows = [i for i, event in enumerate(batch.parsed.events) if self._is_wanted(event)]
                events = [batch.parsed.events[i] for i in rows]
                lines = [batch.parsed.event_lines[i] for i in rows]
                if sorter is not None:
                    sorter.add_events(events, lines, number)
                else:
                    self._check_order(path, reader.unit, events, [batch.parsed.event_places[i] for i in rows])
                    yield from lines
        yield from (line for _, _, line in sorter or ())

    def _is_wanted(self, event: Event) -> bool:
        is_low = self._min_value is not None and (event.value is None or event.value < self._min_value)
        return not (event.type == "rating" and is_low)

    def _refuse(self, path: str, unit: str, parsed: ParsedLines) -> None:
        self.refusals.add(path, unit, parsed.refused)
        if others := len(parsed.items) + len(parsed.users):
            rejection = Rejection(
                "not_an_event", f"{others:,} items or users among the events; pass items with --items"
            )
            self.refusals.add(path, unit, [Refusal(0, rejection, b"")] * others)

    def _check_order(self, path: str, unit: str, events: Sequence[Event], places: Sequence[int]) -> None:
        for event, place in zip(events, places, strict=True):
            if event.ts < self._latest_ts:
                detail = f"ts {event.ts} after {self._latest_ts}; expected events in time order"
                raise ValueError(f"{path}: {unit} {place:,} is out of order: {detail}: pass --sort, or sort the file")
            self._latest_ts = event.ts


def read_catalog(paths: Sequence[str], refusals: Refusals) -> list[bytes]:
    """Read the items of catalog files; other records are refused."""
    lines: list[bytes] = []
    for path in paths:
        reader = RecordReader(path, ReadOptions())
        for batch in reader.batches():
            refusals.add(path, reader.unit, batch.parsed.refused)
            others = len(batch.parsed.events) + len(batch.parsed.users)
            refusals.add(path, reader.unit, [Refusal(0, Rejection("not_an_item", "no item"), b"")] * others)
            lines += [line for _, line in batch.parsed.items if line is not None]
    return lines
