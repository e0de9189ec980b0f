"""Write the records of files to the event log."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from threading import Event as Signal

from replay.files.kinds import ParsedLines
from replay.files.reading import Batch
from replay.files.sorting import EventSorter
from replay.files.sources.tables import Refusal
from stream.clock import Clock
from stream.config import Settings
from stream.ids import partition_for_id
from stream.logs import EventLog, Record
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.events import Event, Limits, Rejection, decode_event, validate
from stream.topics import DEAD_LETTER, EVENTS, ITEMS, USERS
from stream.users.pseudonyms import Pseudonyms

_EVENTS_PER_WRITE = 5000  # one durable write
_MIN_RECORDS_TO_STOP = 100  # that are all refused
# In a file, nobody is rather a column that is not mapped.
_NO_USER = Rejection("missing_field", "Object missing required field `user_id`; a `session_id` can stand for it")
_NOT_A_NUMBER = ("nan", "NaN", "NAN")
_SECONDS_BELOW = 100_000_000_000  # in milliseconds: before March 1973
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class OffsetSpan:
    """Consecutive events in the log that come from one file."""

    partition: int
    first: int
    end: int
    file: int


@dataclass(slots=True)
class LoadResult:
    """Records of one file."""

    unit: str = "line"
    written: Counter[str] = field(default_factory=Counter)  # by topic
    refused: Counter[str] = field(default_factory=Counter)  # by reason
    skipped: Counter[str] = field(default_factory=Counter)  # by reason; such records are no actions on items
    first_refusal: str = ""
    first_unsorted: int = 0  # place of the first event that is earlier than the one before; 0 = none
    times_like_seconds: int = 0  # events whose ts looks like seconds
    float_ids: Counter[str] = field(default_factory=Counter)  # such as 1.0 and nan, by field
    item_ids: set[str] = field(default_factory=set)  # kept for `--replace`
    n_accepted: int = 0  # written, or held back to be sorted
    error: str = ""  # reason why the rest of the file was not read

    @property
    def topic(self) -> str:
        return ", ".join(sorted(+self.written))

    @property
    def n_refused(self) -> int:
        return self.refused.total()


class NothingAccepted(ValueError):
    """All of the first records of a file are refused; none was written."""


class Interrupted(Exception):
    """`stop` was set between two writes."""


class Loader:
    """Check records and write them to their topics.

    Refused ones go to dead-letter with a reason. Without `log`, records are only checked. After `stop` is set, the next
    write raises `Interrupted`.
    """

    def __init__(self, log: EventLog | None, settings: Settings, clock: Clock, stop: Signal | None = None) -> None:
        self._log = log
        self._clock = clock
        self._stop = stop or Signal()
        self._results: dict[int, LoadResult] = {}  # by file
        self._pseudonyms = Pseudonyms(settings.events.user_id_secret)
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)
        self._latest_ts: dict[int, int] = {}  # by file
        self._sorter: EventSorter | None = None
        self.spans: list[OffsetSpan] = []

    def sort(self) -> None:
        """Hold events back until `flush`, which writes them in time order."""
        self._sorter = EventSorter()

    def load(
        self, batches: Iterable[Batch], result: LoadResult, file: int, speed: float | None, progress: Progress
    ) -> None:
        """Load a file at `speed` × the recorded speed; None means as fast as possible.

        `progress` receives the number of records of every batch. `NothingAccepted` if the file does not fit.
        """
        pace = _Pace(self._clock, speed, self._stop) if speed else None
        self._results[file] = result
        for batch in batches:
            self._check_stop()  # before a record that the end of standard input has cut
            parsed = batch.parsed
            result.skipped.update(batch.skipped)
            self._check_times(parsed)
            self._note_times(parsed, result, file)
            _note_float_ids(parsed, result)
            self._refuse(parsed, result)
            self._write_others(parsed, result)
            result.n_accepted += _count_accepted(parsed)
            if self._sorter is not None:
                self._sorter.add_events(parsed.events, parsed.event_lines, file)
            elif pace:
                self._write_paced(parsed, file, pace)
            else:
                self._write_in_parts(parsed.events, parsed.event_lines, file)
            progress(_count(parsed))

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Interrupted

    def flush(self) -> None:
        """Write the events that `sort` held back."""
        events = iter(self._sorter or ())
        while chunk := list(islice(events, _EVENTS_PER_WRITE)):
            lines = [line for _, _, line in chunk]
            self._write_events(list(map(decode_event, lines)), lines, [file for _, file, _ in chunk])

    def _check_times(self, parsed: ParsedLines) -> None:
        """Move events with an invalid time, id or value to the refused ones."""
        now = self._clock.now_ms()
        rejections = validate(parsed.events, [now] * len(parsed.events), self._limits)
        rejections |= {i: _NO_USER for i, event in enumerate(parsed.events) if not event.user and i not in rejections}
        if not rejections:
            return
        for i, rejection in rejections.items():
            parsed.refused.append(Refusal(parsed.event_places[i], rejection, parsed.event_lines[i]))
        good = [i for i in range(len(parsed.events)) if i not in rejections]
        parsed.events = [parsed.events[i] for i in good]
        parsed.event_lines = [parsed.event_lines[i] for i in good]
        parsed.event_places = [parsed.event_places[i] for i in good]

    def _note_times(self, parsed: ParsedLines, result: LoadResult, file: int) -> None:
        """Note the first event out of order, and times that look like seconds."""
        if not parsed.events:
            return
        times = [event.ts for event in parsed.events]
        if min(times) < _SECONDS_BELOW:
            result.times_like_seconds += sum(0 < ts < _SECONDS_BELOW for ts in times)
        latest = self._latest_ts.get(file, times[0])
        if not result.first_unsorted and (times[0] < latest or times != sorted(times)):
            for ts, place in zip(times, parsed.event_places, strict=True):
                if ts < latest:
                    result.first_unsorted = place
                    break
                latest = ts
        self._latest_ts[file] = max(times[-1], latest)

    def _refuse(self, parsed: ParsedLines, result: LoadResult) -> None:
        if not parsed.refused:
            return
        parsed.refused.sort(key=lambda refusal: refusal.place)
        first = parsed.refused[0]
        result.first_refusal = result.first_refusal or f"{result.unit} {first.place}: {first.rejection.detail}"
        result.refused.update(refusal.rejection.reason for refusal in parsed.refused)
        is_start = not result.n_accepted and result.n_refused == len(parsed.refused)
        if is_start and result.n_refused >= _MIN_RECORDS_TO_STOP and not _count_accepted(parsed):
            raise NothingAccepted(f"all of the first {result.n_refused:,} records are refused; {result.first_refusal}")
        if self._log is not None:
            rejected = [
                RejectedEvent(-1, refusal.place, refusal.rejection, self._pseudonyms.rewrite(refusal.raw))
                for refusal in parsed.refused
            ]
            self._log.append(DEAD_LETTER, 0, [(None, encode_dead_letter(event, None)) for event in rejected])

    def _write_others(self, parsed: ParsedLines, result: LoadResult) -> None:
        self._check_stop()
        users = [
            (self._pseudonyms.replace(name), line and self._pseudonyms.rewrite(line)) for name, line in parsed.users
        ]
        for topic, records in ((ITEMS, parsed.items), (USERS, users)):
            result.written[topic] += len(records)
            if records and self._log is not None:
                partitions = self._log.partitions(topic)
                self._log.append_many(topic, _group(records, partitions))
        result.item_ids.update(item_id for item_id, line in parsed.items if line is not None)

    def _write_in_parts(self, events: Sequence[Event], lines: Sequence[bytes], file: int) -> None:
        for start in range(0, len(events), _EVENTS_PER_WRITE):
            part = slice(start, start + _EVENTS_PER_WRITE)
            self._write_events(events[part], lines[part], [file] * len(events[part]))

    def _write_paced(self, parsed: ParsedLines, file: int, pace: "_Pace") -> None:
        for event, line in zip(parsed.events, parsed.event_lines, strict=True):
            pace.wait(event.ts)
            self._write_events([event], [line], [file])

    def _write_events(self, events: Sequence[Event], lines: Sequence[bytes], files: Sequence[int]) -> None:
        self._check_stop()
        kept = [i for i, event in enumerate(events) if event.consent]
        if len(kept) < len(events):
            events, lines = [events[i] for i in kept], [lines[i] for i in kept]
            files = [files[i] for i in kept]
        if self._pseudonyms.is_enabled:
            lines = [self._pseudonyms.rewrite(line) for line in lines]
            events = [decode_event(line) for line in lines]
        for file, count in Counter(files).items():
            self._results[file].written[EVENTS] += count
        if self._log is None or not events:
            return
        partitions = self._log.partitions(EVENTS)
        ids = [event.partition_key for event in events]
        numbers = [partition_for_id(user_id, partitions) for user_id in ids]
        batches: dict[int, list[Record]] = {}
        origins: dict[int, list[int]] = {}
        for user_id, line, number, file in zip(ids, lines, numbers, files, strict=True):
            batches.setdefault(number, []).append((user_id.encode(), line))
            origins.setdefault(number, []).append(file)
        for number, first in self._log.append_many(EVENTS, batches).items():
            self.spans += _make_spans(number, first, origins[number])


class _Pace:
    """Wait so that events are written at a multiple of their recorded speed."""

    def __init__(self, clock: Clock, speed: float, stop: Signal) -> None:
        self._clock = clock
        self._speed = speed
        self._stop = stop
        self._start: tuple[int, int] | None = None  # first event time, time of its write

    def wait(self, ts: int) -> None:
        now = self._clock.now_ms()
        if self._start is None:
            self._start = ts, now
        first_ts, first_write = self._start
        self._stop.wait(max(0.0, (ts - first_ts) / self._speed - (now - first_write)) / 1000)


def _note_float_ids(parsed: ParsedLines, result: LoadResult) -> None:
    """Count ids that look like integers which a writer turned into floats."""
    item_ids = chain((event.item_id for event in parsed.events), (item_id for item_id, _ in parsed.items))
    user_ids = chain((event.user for event in parsed.events), (user_id for user_id, _ in parsed.users))
    for name, ids in (("item_id", item_ids), ("user_id", user_ids)):
        if count := sum(map(_is_float, ids)):
            result.float_ids[name] += count


def _is_float(text: str | None) -> bool:
    return text is not None and (text.endswith(".0") or text in _NOT_A_NUMBER) and text[0] in "-0123456789nN"


def _count_accepted(parsed: ParsedLines) -> int:
    return len(parsed.events) + len(parsed.items) + len(parsed.users)


def _count(parsed: ParsedLines) -> int:
    return _count_accepted(parsed) + len(parsed.refused)


def _group(records: Sequence[tuple[str, bytes | None]], partitions: int) -> dict[int, list[Record]]:
    batches: dict[int, list[Record]] = {}
    for record_id, value in records:
        batches.setdefault(partition_for_id(record_id, partitions), []).append((record_id.encode(), value))
    return batches


def _make_spans(partition: int, first: int, files: Sequence[int]) -> Iterator[OffsetSpan]:
    """Yield one span per run of events of the same file."""
    for file, run in groupby(files):
        end = first + sum(1 for _ in run)
        yield OffsetSpan(partition, first, end, file)
        first = end
