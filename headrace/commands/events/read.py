"""`headrace events read`: print the records of a topic."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches
from heapq import nlargest, nsmallest
from itertools import islice
from pathlib import Path

import msgspec

from headrace.commands.errors import UsageError
from headrace.commands.events.bounds import Bound, parse_bound
from headrace.commands.events.filters import RowFilter
from headrace.commands.events.rows import BINARY_TOPICS, Row, decode_rows
from headrace.commands.installation import open_existing_log
from headrace.commands.output import format_time, print_note
from stream.clock import SystemClock
from stream.config import load
from stream.logs import EventLog, Records
from stream.topics import (
    ALARMS,
    CONTROL,
    DEAD_LETTER,
    EVENTS,
    EXAMPLES,
    ITEMS,
    MODEL_UPDATES,
    QUARANTINE,
    USERS,
)

TOPICS = (EVENTS, ITEMS, USERS, DEAD_LETTER, QUARANTINE, ALARMS, CONTROL, EXAMPLES, MODEL_UPDATES)
_RECORDS_PER_READ = 4096
_BLOCKS_PER_READ = 16  # of a binary topic, whose records are large


@dataclass(frozen=True, slots=True)
class RecordSelection:
    """Records to read; without `start`, the newest ones."""

    topic: str
    start: str | None = None
    end: str | None = None
    limit: int = 100
    row_filter: RowFilter = field(default_factory=RowFilter)
    is_full: bool = False  # keep encoded features


def read_topic(selection: RecordSelection, config: Path | None, as_json: bool) -> int:
    """Print the selected records, oldest first."""
    _check(selection)
    now_ms = SystemClock().now_ms()
    start, end = (
        None if text is None else parse_bound(option, text, now_ms)
        for option, text in (("--from", selection.start), ("--to", selection.end))
    )
    with open_existing_log(load(config)) as log:
        rows = _select(log, selection, start, end)
    is_cut = len(rows) > selection.limit
    rows = rows[: selection.limit] if start else rows[-selection.limit :]
    if as_json:
        print(msgspec.json.encode(rows).decode())
    else:
        for row in rows:
            print(_format(row))
    if is_cut:
        print_note(f"--limit {selection.limit}: there are {'later' if start else 'older'} records that match.")
    return 0


def _check(selection: RecordSelection) -> None:
    if selection.topic not in TOPICS:
        nearest = get_close_matches(selection.topic, TOPICS, 1)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise UsageError(f"--topic {selection.topic!r} is unknown; expected one of {', '.join(TOPICS)}{hint}")
    if selection.topic in BINARY_TOPICS and selection.row_filter:
        raise UsageError(f"topic {selection.topic} holds numeric blocks, which cannot be filtered by id or type")


def _select(log: EventLog, selection: RecordSelection, start: Bound | None, end: Bound | None) -> list[Row]:
    """Up to one row more than the limit, oldest first; without `start`, the newest ones."""
    numbers = {bound.partition for bound in (start, end) if bound and bound.partition is not None}
    n_partitions, limit = log.partitions(selection.topic), selection.limit + 1
    if unknown := sorted(number for number in numbers if number >= n_partitions):
        raise UsageError(f"topic {selection.topic} has partitions 0 to {n_partitions - 1}, got {unknown[0]}")
    rows: list[Row] = []
    for partition in sorted(numbers) or range(n_partitions):
        first = start.resolve(log, selection.topic, partition) if start else 0
        first = max(first, log.start_offset(selection.topic, partition))
        last = log.end_offset(selection.topic, partition)
        last = min(last, end.resolve(log, selection.topic, partition)) if end else last
        windows = _read_forward if start else _read_backward
        rows += islice(_match(windows(log, selection.topic, partition, first, last), selection, bool(start)), limit)
    return nsmallest(limit, rows, _order) if start else sorted(nlargest(limit, rows, _order), key=_order)


def _order(row: Row) -> tuple[int, int, int, int]:
    return row["time"], row["partition"], row["offset"], row.get("index", 0)


def _match(windows: Iterator[Records], selection: RecordSelection, is_forward: bool) -> Iterator[Row]:
    for records in windows:
        rows = [
            row
            for row in decode_rows(selection.topic, records, selection.is_full)
            if not selection.row_filter or selection.row_filter.matches(row)
        ]
        yield from rows if is_forward else reversed(rows)


def _read_forward(log: EventLog, topic: str, partition: int, first: int, last: int) -> Iterator[Records]:
    while first < last and len(records := log.read(topic, partition, first, min(_window(topic), last - first))):
        yield _before(records, last)
        first = records.offsets[-1] + 1


def _read_backward(log: EventLog, topic: str, partition: int, first: int, last: int) -> Iterator[Records]:
    while first < last:
        begin = max(first, last - _window(topic))
        records = list(_read_forward(log, topic, partition, begin, last))
        yield from reversed(records)
        last = begin


def _window(topic: str) -> int:
    return _BLOCKS_PER_READ if topic in BINARY_TOPICS else _RECORDS_PER_READ


def _before(records: Records, last: int) -> Records:
    """The records below an offset: a compacted topic returns records from behind the range."""
    n = sum(offset < last for offset in records.offsets)
    return Records(records.partition, records.offsets[:n], records.keys[:n], records.values[:n], records.times[:n])


def _format(row: Row) -> str:
    index = f"[{row['index']}]" if "index" in row else ""
    mark = f" ({row['mark']})" if "mark" in row else ""
    value = msgspec.json.encode(row["value"]).decode()
    return f"{row['partition']}:{row['offset']}{index}  {format_time(row['time'])}  {row['key'] or '-'}{mark}  {value}"
