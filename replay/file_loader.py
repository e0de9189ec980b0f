"""Recorded logs into the event log: JSON lines, plain or compressed."""

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
from stream.ids import partition_of
from stream.logs import EventLog, Record
from stream.records.catalog import parse_item
from stream.records.dead_letters import Refused, dead_letter
from stream.records.events import Event, Limits, Refusal, parse, screen
from stream.topics import DEAD_LETTER, EVENTS, ITEMS, USERS

_AT_ONCE = 5000  # lines in one durable write


@dataclass(slots=True)
class Loaded:
    """What a file came to."""

    topic: str = ""
    written: int = 0
    refused: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    first_refusal: str = ""


class _Named(msgspec.Struct):
    type: str | None = None
    item_id: str | None = None
    user_id: str | None = None


def open_lines(path: str) -> tuple[IO[bytes], IO[bytes], int]:
    """Lines of a file; the raw file below them, whose position tells the progress; its size in bytes, 0 = unknown."""
    if path == "-":
        return sys.stdin.buffer, sys.stdin.buffer, 0
    raw = Path(path).open("rb")  # noqa: SIM115  # the caller reads it to its end
    size = Path(path).stat().st_size
    if path.endswith(".gz"):
        return gzip.open(raw), raw, size  # type: ignore[return-value]
    if path.endswith(".zst"):
        return io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw)), raw, size
    return raw, raw, size


def topic_of(line: bytes) -> str:
    """What kind of record a line is, by the ids and the type it has."""
    try:
        named = msgspec.json.decode(line, type=_Named)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return EVENTS
    if named.type is not None or (named.item_id is None and named.user_id is None):
        return EVENTS
    return USERS if named.item_id is None else ITEMS


class Loader:
    """Writes lines to their topic; what cannot be a record goes to dead-letter with its reason."""

    def __init__(self, log: EventLog, settings: Settings, clock: Clock) -> None:
        self._log = log
        self._clock = clock
        self._limits = Limits(settings.events.max_age, settings.events.max_skew)

    def load(self, lines: Iterator[bytes], speed: float | None, progress: Callable[[int], None]) -> Loaded:
        """Load all lines, `speed` × as fast as they were recorded (None: at once); `progress` hears of each batch."""
        loaded = Loaded()
        start: tuple[int, int] | None = None
        batch: list[bytes] = []
        for line in lines:
            if not line.strip():
                continue
            loaded.topic = loaded.topic or topic_of(line)
            batch.append(line.rstrip(b"\r\n"))
            if speed is not None and loaded.topic == EVENTS:
                start = self._keep_pace(line, speed, start)
            if len(batch) >= (_AT_ONCE if speed is None else 1):
                self._write(batch, loaded)
                progress(len(batch))
                batch = []
        if batch:
            self._write(batch, loaded)
            progress(len(batch))
        return loaded

    def _keep_pace(self, line: bytes, speed: float, start: tuple[int, int] | None) -> tuple[int, int] | None:
        event = parse(line)
        if isinstance(event, Refusal):
            return start
        now = self._clock.now_ms()
        if start is None:
            return event.ts, now
        time.sleep(max(0.0, (event.ts - start[0]) / speed - (now - start[1])) / 1000)
        return start

    def _write(self, lines: list[bytes], loaded: Loaded) -> None:
        records, refused = (self._events if loaded.topic == EVENTS else self._described)(lines, loaded.topic)
        partitions = self._log.partitions(loaded.topic)
        batches: dict[int, list[Record]] = {}
        for name, value in records:
            batches.setdefault(partition_of(name, partitions), []).append((name.encode(), value))
        if batches:
            self._log.append_many(loaded.topic, batches)
        if refused:
            self._log.append(DEAD_LETTER, 0, [(None, dead_letter(one, None)) for one in refused])
        loaded.written += len(records)
        loaded.refused += len(refused)
        for one in refused:
            loaded.reasons[one.refusal.reason] = loaded.reasons.get(one.refusal.reason, 0) + 1
            loaded.first_refusal = loaded.first_refusal or one.refusal.detail

    def _events(self, lines: list[bytes], topic: str) -> tuple[list[tuple[str, bytes]], list[Refused]]:
        parsed = [_recorded(parse(line), line) for line in lines]
        refused = [Refused(-1, i, one, line) for i, (one, line) in enumerate(parsed) if isinstance(one, Refusal)]
        sound = [(event, line) for event, line in parsed if isinstance(event, Event)]
        now = self._clock.now_ms()
        screened = screen([event for event, _ in sound], [now] * len(sound), self._limits)
        refused += [Refused(-1, i, refusal, sound[i][1]) for i, refusal in screened.items()]
        return [(event.user_id, line) for i, (event, line) in enumerate(sound) if i not in screened], refused

    def _described(self, lines: list[bytes], topic: str) -> tuple[list[tuple[str, bytes]], list[Refused]]:
        """Items or users: an object with its id."""
        records, refused = [], []
        for i, line in enumerate(lines):
            try:
                name = parse_item(line).item_id if topic == ITEMS else msgspec.json.decode(line, type=_User).user_id
                records.append((name, line))
            except (ValueError, msgspec.DecodeError) as error:
                refused.append(
                    Refused(-1, i, Refusal("not_an_item" if topic == ITEMS else "not_a_user", str(error)), line)
                )
        return records, refused


class _User(msgspec.Struct):
    user_id: str


def _recorded(event: Event | Refusal, line: bytes) -> tuple[Event | Refusal, bytes]:
    """A recorded like of -1 is a dislike."""
    if isinstance(event, Refusal) or event.type != "like" or event.value != -1:
        return event, line
    values = msgspec.json.decode(line) | {"type": "dislike", "value": None}
    line = msgspec.json.encode(values)
    return parse(line), line
