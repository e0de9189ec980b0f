"""Group commit: durable, ordered, and working again after an error."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence

import pytest

from serving.ingest.group_commit import GroupCommitWriter
from stream.logs import Record
from stream.testing import MemoryLog
from stream.topics import EVENTS, ITEMS


class FlakyLog(MemoryLog):
    """A log whose appends fail while `is_full` is set."""

    is_full = False

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        if self.is_full:
            raise OSError("no space left on device")
        return super().append_many(topic, batches)


@pytest.fixture
def log() -> FlakyLog:
    log = FlakyLog()
    log.create(EVENTS, 3)
    log.create(ITEMS, 1)
    return log


@pytest.fixture
def writer(log: FlakyLog) -> Iterator[GroupCommitWriter]:
    writer = GroupCommitWriter(log)
    yield writer
    writer.close()


def test_each_append_returns_its_own_first_offset(log: FlakyLog, writer: GroupCommitWriter) -> None:
    async def append_all() -> list[dict[int, int]]:
        return await asyncio.gather(*(writer.append(ITEMS, [(f"{n}", b"a"), (f"{n}", b"b")]) for n in range(50)))

    offsets = [first[0] for first in asyncio.run(append_all())]

    keys = log.read(ITEMS, 0, 0, 1000).keys
    assert offsets == list(range(0, 100, 2))
    assert [keys[offset] for offset in offsets] == [f"{n}".encode() for n in range(50)]


def test_deferred_append_precedes_later_appends(log: FlakyLog, writer: GroupCommitWriter) -> None:
    async def append_all() -> None:
        for n in range(20):
            writer.append_later(ITEMS, [("a", b"%d" % (2 * n))])
            await writer.append(ITEMS, [("a", b"%d" % (2 * n + 1))])

    asyncio.run(append_all())

    assert log.read(ITEMS, 0, 0, 100).values == [b"%d" % n for n in range(40)]


def test_one_id_stays_in_one_partition(log: FlakyLog, writer: GroupCommitWriter) -> None:
    asyncio.run(writer.append(EVENTS, [(f"u{n % 7}", b"x") for n in range(70)]))

    keys_by_partition = [set(log.read(EVENTS, p, 0, 100).keys) for p in range(3)]
    assert sum(map(len, keys_by_partition)) == 7


def test_write_error_reaches_all_callers_and_appends_resume(log: FlakyLog, writer: GroupCommitWriter) -> None:
    async def append_all() -> list[dict[int, int] | BaseException]:
        appends = (writer.append(ITEMS, [("a", b"lost")]) for _ in range(5))
        return await asyncio.gather(*appends, return_exceptions=True)

    log.is_full = True
    results = asyncio.run(append_all())
    log.is_full = False

    assert all(isinstance(result, OSError) for result in results)
    assert asyncio.run(writer.append(ITEMS, [("a", b"kept")])) == {0: 0}


def test_close_writes_the_pending_records(log: FlakyLog) -> None:
    writer = GroupCommitWriter(log)
    for _ in range(10):
        writer.append_later(ITEMS, [("a", b"x")])
    writer.close()

    assert log.end_offset(ITEMS, 0) == 10


def test_empty_append_succeeds(writer: GroupCommitWriter) -> None:
    assert asyncio.run(writer.append(ITEMS, [])) == {}
