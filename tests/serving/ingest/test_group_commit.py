"""Group commit: durable, ordered, and working again after an error."""

import asyncio
import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import pytest

from serving import metrics
from serving.ingest.group_commit import CommitSettings, GroupCommitWriter
from serving.replica.log_reads import LogUnavailable
from stream.ids import partition_for_id
from stream.logs import Record
from stream.testing import MemoryLog
from stream.topics import EVENTS, ITEMS


class FlakyLog(MemoryLog):
    """A log whose appends fail while `is_full` is set, and wait for `answers`."""

    is_full = False
    error_number = errno.ENOSPC

    def __init__(self) -> None:
        super().__init__()
        self.answers = threading.Event()
        self.answers.set()
        self.is_unreachable = False
        self.n_writes = 0

    def append_many(self, topic: str, batches: Mapping[int, Sequence[Record]]) -> dict[int, int]:
        self.answers.wait(20)
        self.n_writes += 1
        if self.is_unreachable:
            raise ConnectionError("no broker answered")
        if self.is_full:
            raise OSError(self.error_number, "no space left on device")
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


def test_deferred_appends_wait_for_each_other_but_no_caller_waits(log: FlakyLog) -> None:
    writer = GroupCommitWriter(log, CommitSettings(group_delay_s=20))
    started = time.monotonic()
    for n in range(5):
        writer.append_later(ITEMS, [("a", b"%d" % n)])
    asyncio.run(writer.append(ITEMS, [("a", b"5")]))
    for n in range(6, 9):
        writer.append_later(ITEMS, [("a", b"%d" % n)])
    writer.close()

    assert log.read(ITEMS, 0, 0, 10).values == [b"%d" % n for n in range(9)]
    assert log.n_writes == 2
    assert time.monotonic() - started < 10


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


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


IMPATIENT = CommitSettings(timeout_s=0.2, max_deferred=5, retry_delay_s=0.01)


def test_append_fails_in_time_and_later_ones_at_once(log: FlakyLog) -> None:
    writer = GroupCommitWriter(log, IMPATIENT)

    async def append_all() -> list[float]:
        seconds = []
        for value in (b"first", b"second", b"third"):
            started = time.monotonic()
            with pytest.raises(LogUnavailable, match=r"did not answer within 0\.2 s"):
                await writer.append(ITEMS, [("a", value)])
            seconds.append(time.monotonic() - started)
        return seconds

    log.answers.clear()
    first, *later = asyncio.run(append_all())
    log.answers.set()
    writer.close()

    assert first >= 0.2
    assert max(later) < 0.15
    assert log.read(ITEMS, 0, 0, 10).values == [b"first"]  # the others were not even tried


def test_deferred_writes_survive_an_outage_in_order(log: FlakyLog) -> None:
    writer = GroupCommitWriter(log, IMPATIENT)
    log.is_unreachable = True
    for n in range(3):
        writer.append_later(EVENTS, [("u", b"%d" % n)])
    with pytest.raises(ConnectionError, match="no broker"):
        asyncio.run(writer.append(ITEMS, [("a", b"rejected")]))
    log.is_unreachable = False
    asyncio.run(writer.append(EVENTS, [("u", b"3")]))
    writer.close()
    partition = partition_for_id("u", 3)

    assert log.read(EVENTS, partition, 0, 10).values == [b"0", b"1", b"2", b"3"]
    assert log.end_offset(ITEMS, 0) == 0


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_deferred_writes_wait_for_the_disk_without_a_further_write(log: FlakyLog, error_number: int) -> None:
    lost, failing = metrics.impressions_lost._value.get(), metrics.impressions_failing._value
    writer = GroupCommitWriter(log, IMPATIENT)
    log.is_full, log.error_number = True, error_number
    writer.append_later(EVENTS, [("u", b"0")])
    wait_until(lambda: failing.get() == 1)
    log.is_full = False
    wait_until(lambda: failing.get() == 0)
    writer.close()

    assert log.read(EVENTS, partition_for_id("u", 3), 0, 10).values == [b"0"]
    assert metrics.impressions_lost._value.get() == lost


def test_impression_that_can_never_be_written_is_lost_and_failing(log: FlakyLog) -> None:
    lost, failing = metrics.impressions_lost._value.get(), metrics.impressions_failing._value
    writer = GroupCommitWriter(log, IMPATIENT)
    log.is_full, log.error_number = True, errno.EMSGSIZE
    writer.append_later(EVENTS, [("u", b"too large")])
    wait_until(lambda: failing.get() == 1)
    log.is_full = False
    writer.append_later(EVENTS, [("u", b"small")])
    wait_until(lambda: failing.get() == 0)
    writer.close()

    assert log.read(EVENTS, partition_for_id("u", 3), 0, 10).values == [b"small"]
    assert metrics.impressions_lost._value.get() == lost + 1


def test_deferred_writes_are_bounded_and_losses_counted(log: FlakyLog) -> None:
    before = metrics.impressions_lost._value.get()
    writer = GroupCommitWriter(log, IMPATIENT)
    log.answers.clear()
    for _ in range(20):
        writer.append_later(EVENTS, [("u", b"x")])
    log.answers.set()
    writer.close()
    lost = metrics.impressions_lost._value.get() - before

    assert lost + log.end_offset(EVENTS, partition_for_id("u", 3)) == 20
    assert lost >= 10


def test_close_does_not_wait_for_a_log_that_is_away(log: FlakyLog) -> None:
    writer = GroupCommitWriter(log, CommitSettings(close_timeout_s=0.1))
    log.answers.clear()
    writer.append_later(EVENTS, [("u", b"x")])
    started = time.monotonic()
    writer.close()
    seconds = time.monotonic() - started
    log.answers.set()

    assert seconds < 5
