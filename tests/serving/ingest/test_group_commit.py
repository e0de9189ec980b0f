"""Group commit: durable when told so, in order, and alive after a fault."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest

from serving.ingest.group_commit import Appender
from stream.logs import Record
from stream.testing import MemoryLog
from stream.topics import EVENTS, ITEMS


class FlakyLog(MemoryLog):
    """A log whose disk is full while `full` is set."""

    full = False

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        if self.full:
            raise OSError("no space left on device")
        return super().append_many(topic, batches)


@pytest.fixture
def log() -> FlakyLog:
    log = FlakyLog()
    log.create(EVENTS, 3)
    log.create(ITEMS, 1)
    return log


@pytest.fixture
def appender(log: FlakyLog) -> Iterator[Appender]:
    appender = Appender(log)
    yield appender
    appender.close()


def test_each_is_told_its_own_first_offset_however_many_are_written_together(log: FlakyLog, appender: Appender) -> None:
    async def append_all() -> list[dict[int, int]]:
        return await asyncio.gather(*(appender.append(ITEMS, [(f"{n}", b"a"), (f"{n}", b"b")]) for n in range(50)))

    offsets = [first[0] for first in asyncio.run(append_all())]

    keys = log.read(ITEMS, 0, 0, 1000).keys
    assert offsets == list(range(0, 100, 2))
    assert [keys[offset] for offset in offsets] == [f"{n}".encode() for n in range(50)]


def test_what_is_handed_in_later_stands_before_what_comes_after(log: FlakyLog, appender: Appender) -> None:
    async def hand_in() -> None:
        for n in range(20):
            appender.append_later(ITEMS, [("a", b"%d" % (2 * n))])
            await appender.append(ITEMS, [("a", b"%d" % (2 * n + 1))])

    asyncio.run(hand_in())

    assert log.read(ITEMS, 0, 0, 100).values == [b"%d" % n for n in range(40)]


def test_one_id_keeps_to_one_partition(log: FlakyLog, appender: Appender) -> None:
    asyncio.run(appender.append(EVENTS, [(f"u{n % 7}", b"x") for n in range(70)]))

    homes = [set(log.read(EVENTS, p, 0, 100).keys) for p in range(3)]
    assert sum(map(len, homes)) == 7


def test_a_fault_is_told_to_all_and_the_next_one_is_written(log: FlakyLog, appender: Appender) -> None:
    async def append_all() -> list[dict[int, int] | BaseException]:
        waiting = (appender.append(ITEMS, [("a", b"lost")]) for _ in range(5))
        return await asyncio.gather(*waiting, return_exceptions=True)

    log.full = True
    told = asyncio.run(append_all())
    log.full = False

    assert all(isinstance(one, OSError) for one in told)
    assert asyncio.run(appender.append(ITEMS, [("a", b"kept")])) == {0: 0}


def test_closing_writes_what_was_handed_in(log: FlakyLog) -> None:
    appender = Appender(log)
    for _ in range(10):
        appender.append_later(ITEMS, [("a", b"x")])
    appender.close()

    assert log.end(ITEMS, 0) == 10


def test_nothing_to_write_is_no_fault(appender: Appender) -> None:
    assert asyncio.run(appender.append(ITEMS, [])) == {}
