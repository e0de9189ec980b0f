"""Load recorded logs into the event log: JSON lines, plain or compressed."""

import gzip
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import msgspec
import zstandard

from stream.clock import Clock
from stream.config import Settings
from stream.ids import partition_for_id
from stream.logs import EventLog, Record
from stream.records.catalog import parse_item
from stream.records.dead_letters import RejectedEvent, encode_dead_letter
from stream.records.events import Event, Limits, Rejection, parse, validate
from stream.topics import DEAD_LETTER, EVENTS, ITEMS, USERS

_LINES_PER_WRITE = 5000  # one durable write


@dataclass(slots=True)
class LoadResult:
    """Records written and rejected of one file."""

    topic: str = ""
    written: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_rejection: str = ""


class _RecordIds(msgspec.Struct):
    type: str | None = None
    item_id: str | None = None
    user_id: str | None = None


def open_lines(path: str) -> tuple[IO[bytes], IO[bytes], int]:
    """Open a file; return its lines, the raw file and its size in bytes.

    The position of the raw file is the progress. The size is 0, unknown, for standard input.
    """
    if path == "-":
        return sys.stdin.buffer, sys.stdin.buffer, 0
    raw = Path(path).open("rb")  # noqa: SIM115  # the caller reads it to its end
    size = Path(path).stat().st_size
    if path.endswith(".gz"):
        return gzip.open(raw), raw, size  # type: ignore[return-value]
    if path.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw)), raw, size
    return raw, raw, size


def detect_topic(line: bytes) -> str:
    """Detect the topic of a record from its ids and its type."""
    try:
        ids = msgspec.json.decode(line, type=_RecordIds)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return EVENTS
    if ids.type is not None or (ids.item_id is None and ids.user_id is None):
        return EVENTS
    return USERS if ids.item_id is None else ITEMS


class Loader:
    """Write lines to their topic; rejected lines go to dead-letter with a reason."""

    def __init__(self, log: EventLog, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)

    def load(self, lines: Iterator[bytes], speed: float | None, progress: Callable[[int], None]) -> LoadResult:
        """Load all lines at `speed` × the recorded speed; None means as fast as possible.

        `progress` receives the number of lines of every batch.
        """
        result = LoadResult()
        start: tuple[int, int] | None = None
        batch: list[bytes] = []
        for line in lines:
            if not line.strip():
                continue
            result.topic = result.topic or detect_topic(line)
            batch.append(line.rstrip(b"\r\n"))
            if speed is not None and result.topic == EVENTS:
                start = self._keep_pace(line, speed, start)
            if len(batch) >= (_LINES_PER_WRITE if speed is None else 1):
                self._write(batch, result)
                progress(len(batch))
                batch = []
        if batch:
            self._write(batch, result)
            progress(len(batch))
        return result

    def _keep_pace(self, line: bytes, speed: float, start: tuple[int, int] | None) -> tuple[int, int] | None:
        event = parse(line)
        if isinstance(event, Rejection):
            return start
        now = self._clock.now_ms()
        if start is None:
            return event.ts, now
        time.sleep(max(0.0, (event.ts - start[0]) / speed - (now - start[1])) / 1000)
        return start

    def _write(self, lines: list[bytes], result: LoadResult) -> None:
        is_event = result.topic == EVENTS
        records, rejected = self._validate_events(lines) if is_event else self._validate_records(lines, result.topic)
        partitions = self._log.partitions(result.topic)
        batches: dict[int, list[Record]] = {}
        for record_id, value in records:
            batches.setdefault(partition_for_id(record_id, partitions), []).append((record_id.encode(), value))
        if batches:
            self._log.append_many(result.topic, batches)
        if rejected:
            self._log.append(DEAD_LETTER, 0, [(None, encode_dead_letter(event, None)) for event in rejected])
        result.written += len(records)
        result.rejected += len(rejected)
        for event in rejected:
            result.reasons[event.rejection.reason] = result.reasons.get(event.rejection.reason, 0) + 1
            result.first_rejection = result.first_rejection or event.rejection.detail

    def _validate_events(self, lines: list[bytes]) -> tuple[list[tuple[str, bytes]], list[RejectedEvent]]:
        parsed = [_normalize_event(parse(line), line) for line in lines]
        rejected = [
            RejectedEvent(-1, i, event, line) for i, (event, line) in enumerate(parsed) if isinstance(event, Rejection)
        ]
        valid = [(event, line) for event, line in parsed if isinstance(event, Event)]
        now = self._clock.now_ms()
        rejections = validate([event for event, _ in valid], [now] * len(valid), self._limits)
        rejected += [RejectedEvent(-1, i, rejection, valid[i][1]) for i, rejection in rejections.items()]
        return [(event.user_id, line) for i, (event, line) in enumerate(valid) if i not in rejections], rejected

    def _validate_records(self, lines: list[bytes], topic: str) -> tuple[list[tuple[str, bytes]], list[RejectedEvent]]:
        """Validate items or users: each is an object with its id."""
        parse_id = _parse_item_id if topic == ITEMS else _parse_user_id
        reason = "not_an_item" if topic == ITEMS else "not_a_user"
        records, rejected = [], []
        for i, line in enumerate(lines):
            try:
                records.append((parse_id(line), line))
            except (ValueError, msgspec.DecodeError) as error:
                rejected.append(RejectedEvent(-1, i, Rejection(reason, str(error)), line))
        return records, rejected


class _User(msgspec.Struct):
    user_id: str


def _parse_item_id(line: bytes) -> str:
    return parse_item(line).item_id


def _parse_user_id(line: bytes) -> str:
    return msgspec.json.decode(line, type=_User).user_id


def _normalize_event(event: Event | Rejection, line: bytes) -> tuple[Event | Rejection, bytes]:
    """Turn a recorded like of −1 into a dislike."""
    if isinstance(event, Rejection) or event.type != "like" or event.value != -1:
        return event, line
    values = msgspec.json.decode(line) | {"type": "dislike", "value": None}
    line = msgspec.json.encode(values)
    return parse(line), line
