"""Events are read again by partition and offset."""

import msgspec

from online_models.guard.event_lookup import read_events
from stream.testing import ManualClock, MemoryLog
from stream.topics import EVENTS
from tests.support.events import START


def event(n: int) -> dict[str, object]:
    return {"event_id": f"e{n}", "type": "click", "ts": START, "user_id": "u1", "item_id": "i1"}


def test_events_are_found_by_partition_and_offset() -> None:
    log = MemoryLog(clock=ManualClock(START))
    log.create(EVENTS, 2)
    log.append(EVENTS, 0, [(None, msgspec.json.encode(event(n))) for n in range(2_000)])
    log.append(EVENTS, 1, [(None, msgspec.json.encode([event(1), event(2)])), (None, b"no event")])
    log.trim(EVENTS, 0, 3)
    events = read_events(log, [(1, 1), (0, 1_999), (0, 4), (0, 2), (0, 7), (1, 0), (0, 7), (0, 5_000)])

    assert [(partition, event.event_id) for partition, event in events] == [
        (0, "e4"), (0, "e7"), (0, "e1999"), (1, "e1"), (1, "e2"),
    ]  # fmt: skip
    assert list(read_events(log, [])) == []
