"""Records are checked, written to their topics, or refused with a reason."""

from collections.abc import Iterator, Sequence
from threading import Event as Signal
from typing import Any

import msgspec
import pytest

from replay.file_loader import Interrupted, Loader, LoadResult, NothingAccepted, OffsetSpan
from replay.files.kinds import parse_lines
from replay.files.reading import Batch
from stream.config import EventsSettings, Settings
from stream.testing import ManualClock, MemoryLog, memory_system
from stream.topics import DEAD_LETTER, EVENTS, ITEMS, USERS

NOW = 1_767_225_600_000
_NO_LIMIT = Settings(events=EventsSettings(max_age=0))


def make_event(i: int, **fields: Any) -> dict[str, Any]:
    return {"event_id": f"e{i}", "type": "click", "ts": NOW - 1000 + i, "user_id": f"u{i}", "item_id": "a"} | fields


def make_batches(*batches: Sequence[dict[str, Any]]) -> Iterator[Batch]:
    place = 0
    for batch in batches:
        lines = [msgspec.json.encode(record) for record in batch]
        yield Batch(parse_lines(lines, range(place + 1, place + 1 + len(lines)), None, "", list))
        place += len(batch)


def load(*batches: Sequence[dict[str, Any]], settings: Settings = _NO_LIMIT) -> tuple[MemoryLog, LoadResult, Loader]:
    log, _, _ = memory_system(partitions=3, clock=ManualClock(NOW))
    loader, result = Loader(log, settings, ManualClock(NOW)), LoadResult()
    loader.load(make_batches(*batches), result, 0, None, lambda n: None)
    loader.flush()
    return log, result, loader


def read_values(log: MemoryLog, topic: str) -> list[bytes | None]:
    return [
        value for partition in range(log.partitions(topic)) for value in log.read(topic, partition, 0, 10**6).values
    ]


def test_records_go_to_the_topic_of_their_kind() -> None:
    log, result, loader = load([make_event(1), {"item_id": "a"}, {"user_id": "u"}, {"item_id": "b", "deleted": True}])

    assert result.written == {EVENTS: 1, ITEMS: 2, USERS: 1}
    assert read_values(log, ITEMS) == [b'{"item_id":"a"}', None]
    assert sum(span.end - span.first for span in loader.spans) == 1


def test_spans_cover_every_event() -> None:
    log, _, loader = load([make_event(i) for i in range(40)], [make_event(i) for i in range(40, 50)])
    spans = sorted(loader.spans, key=lambda span: (span.partition, span.first))

    for partition in range(3):
        offsets = [n for span in spans if span.partition == partition for n in range(span.first, span.end)]
        assert offsets == list(range(log.end_offset(EVENTS, partition)))
    assert isinstance(spans[0], OffsetSpan)


def test_refused_records_go_to_dead_letter() -> None:
    log, result, _ = load([make_event(1), make_event(2, type="wave"), make_event(3, ts=-5), {"a": 1}])
    letters = [msgspec.json.decode(value or b"") for value in read_values(log, DEAD_LETTER)]

    assert result.refused == {"unknown_type": 1, "bad_ts": 1, "unknown_kind": 1}
    assert result.first_refusal.startswith("line 2: ")
    assert [(letter["reason"], letter["index"]) for letter in letters] == [
        ("unknown_type", 2), ("bad_ts", 3), ("unknown_kind", 4),
    ]  # fmt: skip


def test_old_events_are_refused_by_the_setting() -> None:
    _, result, _ = load([make_event(1), make_event(2, ts=5)], settings=Settings())

    assert (result.written[EVENTS], result.refused) == (1, {"too_old": 1})


def test_file_of_refused_records_only_stops_before_dead_letter() -> None:
    log, _, clock = memory_system(clock=ManualClock(NOW))
    loader, result = Loader(log, Settings(), clock), LoadResult()
    batches = make_batches([make_event(i, ts=5) for i in range(200)], [make_event(i) for i in range(10)])

    with pytest.raises(NothingAccepted, match=r"all of the first 200 records.*max_age"):
        loader.load(batches, result, 0, None, lambda n: None)
    assert read_values(log, DEAD_LETTER) == read_values(log, EVENTS) == []


def test_times_that_look_like_seconds_are_counted() -> None:
    _, result, _ = load([make_event(1, ts=1_714_564_800), make_event(2)])

    assert result.times_like_seconds == 1


def test_ids_that_look_like_floats_are_counted() -> None:
    events = [make_event(i, item_id=item_id) for i, item_id in enumerate(["1.0", "nan", "v2.0", "2.5", "1"])]
    _, result, _ = load([*events, {"item_id": "NaN"}, {"user_id": "7.0"}])

    assert result.float_ids == {"item_id": 3, "user_id": 1}


@pytest.mark.parametrize(
    ("times", "place"),
    [((1, 2, 2, 3, 4), 0), ((1, 3, 2, 4, 5), 3), ((1, 2, 3, 1, 5), 4)],
    ids=["sorted", "inside", "later"],
)
def test_first_event_out_of_order_is_noted(times: Sequence[int], place: int) -> None:
    events = [make_event(i, ts=ts) for i, ts in enumerate(times)]
    _, result, _ = load(events[:3], events[3:])

    assert result.first_unsorted == place


def test_sorted_events_of_several_files_are_one_sequence() -> None:
    log, _, clock = memory_system(clock=ManualClock(NOW))
    loader = Loader(log, _NO_LIMIT, clock)
    loader.sort()
    for number, times in enumerate([(5, 1), (4, 2)]):
        batches = make_batches([make_event(ts, ts=ts) for ts in times])
        loader.load(batches, LoadResult(), number, None, lambda n: None)
    loader.flush()

    assert [msgspec.json.decode(value or b"")["ts"] for value in read_values(log, EVENTS)] == [1, 2, 4, 5]
    assert [(span.first, span.end, span.file) for span in loader.spans] == [(0, 1, 0), (1, 3, 1), (3, 4, 0)]


def test_check_without_a_log_writes_nothing() -> None:
    loader, result = Loader(None, _NO_LIMIT, ManualClock(NOW)), LoadResult()
    loader.load(make_batches([make_event(1), {"item_id": "a"}, {"b": 1}]), result, 0, None, lambda n: None)

    assert (result.written, result.refused) == ({EVENTS: 1, ITEMS: 1, USERS: 0}, {"unknown_kind": 1})
    assert loader.spans == []


@pytest.mark.parametrize("is_sorted", [False, True])
def test_interruption_counts_what_is_written(is_sorted: bool) -> None:
    log, _, clock = memory_system(partitions=3, clock=ManualClock(NOW))
    stop = Signal()
    loader, result = Loader(log, _NO_LIMIT, clock, stop), LoadResult()
    if is_sorted:
        loader.sort()
    batches = [[make_event(i) for i in range(first, first + 10)] for first in (0, 10)]
    loader.load(make_batches(batches[0]), result, 0, None, lambda n: None)
    stop.set()
    with pytest.raises(Interrupted):
        loader.flush() if is_sorted else loader.load(make_batches(batches[1]), result, 0, None, lambda n: None)

    assert result.written[EVENTS] == len(read_values(log, EVENTS)) == (0 if is_sorted else 10)
