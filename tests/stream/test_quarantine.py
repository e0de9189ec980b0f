"""Poison of one person is held back once, whenever the process dies, and nobody else is touched."""

from typing import Any

import msgspec
import numpy as np
import pytest

from stream.alarms import known_alarms
from stream.config import Guard
from stream.ids import key_of
from stream.logs import Record
from stream.quarantine import ANYTHING, BARRED, Bar, drop, held_back, release
from stream.records.batches import Kind
from stream.topics import ALARMS, QUARANTINE, USERS
from stream.users.profiles import decode_profile, describe
from tests.stream.worker.test_worker import World, record, settings_of, shown, told
from tests.support.events import START
from tests.support.faults import Fuse

LIMITS = Guard(flood=20, forged=10, speed=100)


def world_of(guard: Guard = LIMITS, fuse: Fuse | None = None) -> World:
    return World(settings_of(partitions=1).model_copy(update={"guard": guard}), fuse)


def clicks(count: int, gap: int, user: str = "u1", items: int = 1, start: int = START, **more: Any) -> list[Record]:
    """`count` clicks, `gap` ms apart, going round the items."""
    return [
        record(event_id=f"{user}-{start}-{n}", user_id=user, item_id=f"i{n % items}", ts=start + n * gap, **more)
        for n in range(count)
    ]


def lived(records: list[Record], guard: Guard = LIMITS, fuse: Fuse | None = None) -> World:
    world = world_of(guard, fuse)
    world.write({0: records})
    world.catch_up()
    return world


@pytest.mark.parametrize(
    ("records", "detector"),
    [
        (clicks(200, 50), "flood"),
        (clicks(200, 0), "flood"),
        (clicks(200, 400, items=20), "flood"),
        (clicks(100, 1_000, items=90, impression_id="forged"), "forged"),
        (clicks(400, 100, items=400), "speed"),
    ],
    ids=["one item", "at one instant", "some items in turn", "slates never shown", "everything"],
)
def test_a_flood_is_held_back_behind_its_beginning(records: list[Record], detector: str) -> None:
    world = lived(records)
    held = held_back(world.log)
    rows = world.rows(0)
    passed = int((rows.kind == Kind.action).sum())

    assert {one.detector for one in held} == {detector}
    assert len(held) > len(records) / 2
    assert passed + len(held) == len(records)
    assert decode_profile(world.users()[key_of("u1")]).counts.sum() == passed
    [alarm] = known_alarms(world.log)
    assert (alarm.kind, alarm.depth, alarm.detector, alarm.remedy) == ("poison", "actor", detector, "quarantine")


@pytest.mark.parametrize(
    "records",
    [
        clicks(300, 5_000),
        clicks(90, 700, items=90),
        clicks(100, 0, items=100),
        [
            shown(START),
            *(record(event_id=f"c{n}", item_id="a", ts=START + 8_000 * n, impression_id="r1") for n in range(99)),
        ],
    ],
    ids=["a probe", "a fast reader", "an import without times of day", "clicks on a slate"],
)
def test_what_people_and_imports_do_passes(records: list[Record]) -> None:
    world = lived(records)

    assert held_back(world.log) == []
    assert world.log.end(ALARMS, 0) == 0


def test_a_screen_that_is_off_lets_all_pass() -> None:
    assert held_back(lived(clicks(200, 0), Guard(enabled=False)).log) == []


def test_who_has_calmed_down_counts_again_and_everybody_else_always_did() -> None:
    flood, later = clicks(200, 50), clicks(5, 9_000, start=START + 1_200_000)
    others = clicks(10, 9_000, user="u2")
    world = lived([*flood, *others, *later])

    assert {one.user_id for one in held_back(world.log)} == {"u1"}
    assert not {one.event_id for one in held_back(world.log)} & {f"u1-{START + 1_200_000}-{n}" for n in range(5)}


def test_a_flood_that_goes_on_for_long_stays_held_back() -> None:
    world = lived(clicks(2_000, 300))

    assert len(held_back(world.log)) > 1_950


def test_an_alarm_about_a_person_comes_once_an_hour() -> None:
    hour = 3_600_000
    world = lived([*clicks(100, 0), *clicks(100, 0, start=START + hour // 2), *clicks(100, 0, start=START + 2 * hour)])

    assert [alarm.ts // hour - START // hour for alarm in known_alarms(world.log)] == [0, 2]


def test_a_crash_at_any_moment_holds_the_same_back_once() -> None:
    records = [*clicks(60, 10), *clicks(20, 10)[5:15], *clicks(20, 9_000, user="u2")]
    calm = lived(records)
    topics = (QUARANTINE, ALARMS)
    left = {topic: calm.log.read(topic, 0, 0, 999).values for topic in topics}
    assert all(left.values())
    for moment in range(calm.fuse.burnt):
        world = lived(records, fuse=Fuse(moment))

        assert world.crashes == 1
        assert told(world) == told(calm), f"crash at moment {moment}"
        assert {topic: sorted(world.log.read(topic, 0, 0, 999).values) for topic in topics} == {
            topic: sorted(values) for topic, values in left.items()
        }, f"crash at moment {moment}"


def test_the_same_is_held_back_wherever_micro_batches_end() -> None:
    worlds = []
    for batch in (1, 7, 5000):
        settings = settings_of(batch=batch, partitions=1).model_copy(update={"guard": LIMITS})
        world = World(settings)
        world.write({0: clicks(120, 40)})
        world.catch_up()
        worlds.append((told(world), [one.event_id for one in held_back(world.log)]))

    assert worlds[0] == worlds[1] == worlds[2]


def test_what_is_released_counts_once_and_what_is_dropped_never() -> None:
    world = lived(clicks(60, 10))
    first, second, *_ = held = held_back(world.log)
    before = decode_profile(world.users()[key_of("u1")]).counts.sum()
    release(world.log, first)
    release(world.log, first)
    drop(world.log, second)
    world.catch_up()
    world.restart()
    world.write({0: [(b"u1", bytes(one.event)) for one in held]})
    world.catch_up()
    profile = decode_profile(world.users()[key_of("u1")])

    assert held_back(world.log) == held[2:]
    assert profile.counts.sum() == before + 1
    assert describe(profile)["history"][-1]["event_id"] == first.event_id


def test_an_event_in_an_array_is_released_alone() -> None:
    array = [msgspec.json.decode(value) for _, value in clicks(100, 0)]
    world = lived([(b"u1", msgspec.json.encode(array))])
    one = held_back(world.log)[0]

    assert msgspec.json.decode(one.event)["event_id"] == one.event_id

    release(world.log, one)
    world.catch_up()

    assert int((world.rows(0).kind == Kind.action).sum()) == 100 - len(held_back(world.log))


def test_held_rows_answer_no_impression() -> None:
    world = lived(
        [shown(), *clicks(90, 1, items=1, impression_id="r1"), record(event_id="z", ts=START + 9_000_000, item_id="z")]
    )
    rows = world.rows(0)

    assert (rows.impression[rows.kind == Kind.held] == 0).all()
    assert np.isin(Kind.closed, rows.kind)


def barred(fuse: Fuse | None = None, item: str = "i0") -> World:
    """One person is barred from an item between two rounds of clicks on it and on another."""
    world = world_of(fuse=fuse)
    world.write({0: clicks(10, 9_000, items=2)})
    world.catch_up()
    until = START + 3_600_000
    world.write({0: [(BARRED + b"u1", msgspec.json.encode(Bar(item, until))), (BARRED + b"u9", b"no bar")]}, USERS)
    world.catch_up()
    world.write({0: [*clicks(10, 9_000, items=2, start=START + 1_000_000), *clicks(10, 9_000, "u2", items=2)]})
    world.write({0: clicks(10, 9_000, items=2, start=until)})
    world.catch_up()
    return world


def test_who_is_barred_from_an_item_is_held_back_there_alone_and_for_so_long_alone() -> None:
    world = barred()
    held = held_back(world.log)

    assert {(one.user_id, one.item_id, one.detector) for one in held} == {("u1", "i0", "pumping")}
    assert len(held) == 5
    assert decode_profile(world.users()[key_of("u1")]).counts.sum() == 25
    assert world.log.end(ALARMS, 0) == 0


def test_who_is_barred_from_anything_is_held_back_whatever_they_do_for_so_long() -> None:
    held = held_back(barred(item=ANYTHING).log)

    assert {(one.user_id, one.item_id) for one in held} == {("u1", "i0"), ("u1", "i1")}
    assert len(held) == 10


def test_a_bar_survives_a_crash_at_any_moment() -> None:
    calm = barred()
    for moment in range(calm.fuse.burnt):
        world = barred(Fuse(moment))

        assert told(world) == told(calm), f"crash at moment {moment}"
        assert sorted(held_back(world.log), key=lambda one: one.offset) == held_back(calm.log)
