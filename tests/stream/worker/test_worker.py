"""Every event counts once in users, examples and dead letters, whenever the process dies."""

import msgspec
import numpy as np
import pytest

from stream.config import Events, Log, Settings, Stream
from stream.ids import key_of, partition_of
from stream.logs import Record
from stream.records.batches import ExampleBatch, Kind, concat
from stream.records.example_blocks import Reach, decode_examples, encode_examples, sound_blocks
from stream.testing import Crashed
from stream.topics import ALARMS, DEAD_LETTER, EVENTS, EXAMPLES, QUARANTINE, USERS
from stream.users.profiles import decode_profile
from stream.worker.worker import StreamWorker
from tests.support.events import START, Shoppers
from tests.support.faults import BrittleLog, BrittleStore, Fuse

PARTITIONS = 3
YEAR = 365 * 86_400_000


def settings_of(batch: int = 16, remember: int = 1000, window: float = 60, partitions: int = PARTITIONS) -> Settings:
    return Settings(
        log=Log(partitions=partitions),
        events=Events(max_age=0, remember=remember),
        stream=Stream(batch=batch, window=window, lateness=4, cached_users=16),
    )


class World:
    """A log and a store that outlive the workers on them."""

    def __init__(self, settings: Settings, fuse: Fuse | None = None) -> None:
        self.settings = settings
        self.fuse = fuse or Fuse()
        self.log, self.store = BrittleLog(self.fuse, START + YEAR), BrittleStore(self.fuse)
        for topic in (EVENTS, EXAMPLES, USERS):
            self.log.create(topic, settings.log.partitions)
        for topic in (DEAD_LETTER, QUARANTINE, ALARMS):
            self.log.create(topic, 1)
        self.worker: StreamWorker | None = None
        self.crashes = 0

    def write(self, records: dict[int, list[Record]], topic: str = EVENTS) -> None:
        for partition, some in records.items():
            self.log.write(topic, partition, *some)

    def catch_up(self) -> None:
        """Step until nothing is left, with a new worker whenever one dies."""
        left = 2
        while left:
            try:
                self.worker = self.worker or StreamWorker(self.log, self.store, self.settings)
                left = 2 if self.worker.step(timeout=0) else left - 1
            except Crashed:
                self.log.leave(EVENTS, "stream")
                self.worker, self.crashes, left = None, self.crashes + 1, 2

    def restart(self) -> None:
        self.log.leave(EVENTS, "stream")
        self.worker = None

    def rows(self, partition: int) -> ExampleBatch:
        return concat([batch for _, batch in self.blocks(partition)])

    def blocks(self, partition: int) -> list[tuple[Reach, ExampleBatch]]:
        return [decode_examples(block) for block in sound_blocks(self.log.read(EXAMPLES, partition, 0, 1_000_000))]

    def letters(self) -> list[bytes]:
        return sorted(value for value in self.log.read(DEAD_LETTER, 0, 0, 1_000_000).values if value is not None)

    def users(self) -> dict[int, bytes]:
        return dict(self.store.scan())


def told(world: World) -> tuple[list[bytes], dict[int, bytes], list[bytes]]:
    """All that a stream worker leaves behind; the borders of blocks are no part of it."""
    nowhere = Reach(0, 0, 0, 0, 0, 0)
    rows = [encode_examples(nowhere, world.rows(p)) for p in range(world.settings.log.partitions)]
    return rows, world.users(), world.letters()


def live(settings: Settings, fuse: Fuse, phases: int = 3, records: int = 70) -> World:
    """Events in phases, with records of the users topic between them: attributes, and people to forget."""
    world = World(settings, fuse)
    shoppers = Shoppers(seed=5, partitions=settings.log.partitions)
    for phase in range(phases):
        world.write(shoppers.records(records))
        world.catch_up()
        for n in range(0, shoppers.people, 3):
            user = f"u{n}"
            value = None if n % 2 else msgspec.json.encode({"phase": phase})
            world.write({partition_of(user, settings.log.partitions): [(user.encode(), value)]}, USERS)
        world.catch_up()
    return world


@pytest.fixture(scope="module")
def calm() -> World:
    """A run without a crash."""
    return live(settings_of(), Fuse(), phases=2, records=50)


def test_a_crash_at_any_moment_changes_nothing(calm: World) -> None:
    expected = told(calm)
    for moment in range(calm.fuse.burnt):
        world = live(settings_of(), Fuse(moment), phases=2, records=50)

        assert world.crashes == 1
        assert told(world) == expected, f"crash at moment {moment}"


def test_a_crash_during_recovery_changes_nothing(calm: World) -> None:
    for moment in range(1, calm.fuse.burnt, 5):
        world = live(settings_of(), Fuse(moment, moment % 7, 3), phases=2, records=50)

        assert world.crashes
        assert told(world) == told(calm), f"crash at moment {moment}, then {moment % 7} moments later"


@pytest.mark.parametrize("batch", [1, 7, 5000])
def test_the_same_events_make_the_same_rows_wherever_micro_batches_end(calm: World, batch: int) -> None:
    world = live(settings_of(batch=batch), Fuse(), phases=2, records=50)

    assert told(world) == told(calm)


def test_a_crash_changes_nothing_when_micro_batches_are_cut_into_many_blocks() -> None:
    # More events than ids are remembered, so that what was published but not stored must not depend on that.
    settings = settings_of(batch=5000, partitions=1)
    whole = live(settings, Fuse(), phases=1, records=1300)
    assert len(whole.blocks(0)) > 2
    for moment in range(whole.fuse.burnt):
        world = live(settings, Fuse(moment), phases=1, records=1300)

        assert told(world) == told(whole), f"crash at moment {moment}"


def test_people_beyond_the_cache_have_the_same_records(calm: World) -> None:
    roomy = settings_of().model_copy(update={"stream": Stream(batch=16, window=60, lateness=4, cached_users=4096)})
    world = live(roomy, Fuse(), phases=2, records=50)

    assert told(world) == told(calm)


def record(**event: object) -> Record:
    plain = {"event_id": "e1", "type": "click", "ts": START, "user_id": "u1"}
    return b"u1", msgspec.json.encode(plain | event)


def shown(ts: int = START) -> Record:
    return record(event_id="shown", type="impression", ts=ts, impression_id="r1", items=["a", "b"])


def test_an_impression_that_is_open_when_the_process_dies_is_joined_afterwards() -> None:
    world = World(settings_of(partitions=1))
    world.write({0: [shown()]})
    world.catch_up()
    world.restart()
    world.write({0: [record(item_id="b", ts=START + 9_000, impression_id="r1")]})
    world.catch_up()
    world.restart()
    world.write({0: [record(event_id="later", item_id="z", ts=START + 900_000)]})
    world.catch_up()
    rows = world.rows(0)

    assert [Kind(kind).name for kind in rows.kind] == ["shown", "action", "clicked", "action", "closed"]
    assert rows.lists.take(np.array([2, 4])).label.tolist() == [0, 1, 0, 1]
    assert not rows.organic[1]


def test_an_event_that_comes_again_after_a_restart_is_skipped() -> None:
    world = World(settings_of(partitions=1))
    for _ in range(3):
        world.write({0: [record(item_id="a"), record(item_id="a")]})
        world.catch_up()
        world.restart()

    assert len(world.rows(0)) == 1
    assert decode_profile(world.users()[key_of("u1")]).counts.sum() == 1


def test_a_person_who_is_forgotten_stays_forgotten_after_a_crash() -> None:
    for moment in range(100):
        world = World(settings_of(partitions=1), Fuse(moment))
        world.write({0: [record(item_id="a")]})
        world.catch_up()
        world.write({0: [(b"u1", None)]}, USERS)
        world.catch_up()
        if not world.crashes:
            return

        assert decode_profile(world.users()[key_of("u1")]).is_empty


@pytest.mark.parametrize("key", [None, b"", b"\xff", b"u\n1"])
def test_a_record_of_the_users_topic_without_an_id_is_passed_over(key: bytes | None) -> None:
    world = World(settings_of(partitions=1))
    world.write({0: [(key, b"{}"), (b"u2", b"no json"), (b"u3", b"[]"), (b"u4", b'{"a":1}')]}, USERS)
    world.catch_up()

    assert list(world.users()) == [key_of("u4")]


def test_a_micro_batch_of_refused_records_moves_on() -> None:
    world = World(settings_of(partitions=1))
    world.write({0: [(None, b"?"), (None, None), (None, b"[1]")]})
    world.catch_up()
    world.restart()
    world.catch_up()
    letters = [msgspec.json.decode(letter) for letter in world.letters()]

    assert sorted((letter["offset"], letter["reason"]) for letter in letters) == [
        (0, "not_json"),
        (1, "not_json"),
        (2, "not_object"),
    ]
    assert world.blocks(0)[-1][0].next == 3
