"""Rate limits quarantine the poison of one user exactly once, and let all other users pass."""

from typing import Any

import msgspec
import numpy as np
import pytest

from stream.alarms import read_alarms
from stream.clock import HOUR_MS
from stream.config import GuardSettings
from stream.ids import hash_id
from stream.logs import Record
from stream.quarantine import ANY_ITEM, BAN_KEY_PREFIX, Ban, drop, list_quarantined, release
from stream.records.batches import Kind
from stream.topics import ALARMS, QUARANTINE, USERS
from stream.users.profiles import decode_profile, describe
from tests.support.events import START
from tests.support.faults import CrashInjector
from tests.support.stream_harness import StreamHarness, collect_outputs, make_impression, make_record, make_settings

LIMITS = GuardSettings(
    max_repeated_actions_per_minute=20, max_unseen_slate_actions_per_minute=10, max_total_actions_per_minute=100
)


def make_harness(guard: GuardSettings = LIMITS, injector: CrashInjector | None = None) -> StreamHarness:
    return StreamHarness(make_settings(partitions=1).model_copy(update={"guard": guard}), injector)


def make_clicks(
    count: int, gap_ms: int, user: str = "u1", items: int = 1, start: int = START, **fields: Any
) -> list[Record]:
    """Clicks at intervals of `gap_ms`, on `items` items in turn."""
    return [
        make_record(
            event_id=f"{user}-{start}-{n}", user_id=user, item_id=f"i{n % items}", ts=start + n * gap_ms, **fields
        )
        for n in range(count)
    ]


def run_records(
    records: list[Record], guard: GuardSettings = LIMITS, injector: CrashInjector | None = None
) -> StreamHarness:
    harness = make_harness(guard, injector)
    harness.write_records({0: records})
    harness.catch_up()
    return harness


@pytest.mark.parametrize(
    ("records", "detector"),
    [
        (make_clicks(200, 50), "flood"),
        (make_clicks(200, 0), "flood"),
        (make_clicks(200, 400, items=20), "flood"),
        (make_clicks(100, 1_000, items=90, impression_id="forged_impression"), "forged_impression"),
        (make_clicks(400, 100, items=400), "speed"),
    ],
    ids=["one item", "at one instant", "some items in turn", "slates never shown", "everything"],
)
def test_flood_is_quarantined_after_its_first_actions(records: list[Record], detector: str) -> None:
    harness = run_records(records)
    quarantined = list_quarantined(harness.log)
    rows = harness.read_rows(0)
    n_passed = int((rows.kind == Kind.action).sum())

    assert {action.detector for action in quarantined} == {detector}
    assert len(quarantined) > len(records) / 2
    assert n_passed + len(quarantined) == len(records)
    assert decode_profile(harness.read_users()[hash_id("u1")]).counts.sum() == n_passed
    [alarm] = read_alarms(harness.log)
    assert (alarm.kind, alarm.depth, alarm.detector, alarm.remedy) == ("poison", "actor", detector, "quarantine")


@pytest.mark.parametrize(
    "records",
    [
        make_clicks(300, 5_000),
        make_clicks(90, 700, items=90),
        make_clicks(100, 0, items=100),
        [
            make_impression(START),
            *(make_record(event_id=f"c{n}", item_id="a", ts=START + 8_000 * n, impression_id="r1") for n in range(99)),
        ],
    ],
    ids=["a probe", "a fast reader", "an import without times of day", "clicks on a slate"],
)
def test_normal_traffic_and_imports_pass(records: list[Record]) -> None:
    harness = run_records(records)

    assert list_quarantined(harness.log) == []
    assert harness.log.end_offset(ALARMS, 0) == 0


def test_disabled_rate_limits_let_all_actions_pass() -> None:
    assert list_quarantined(run_records(make_clicks(200, 0), GuardSettings(enabled=False)).log) == []


def test_user_counts_again_after_a_flood_and_others_always_do() -> None:
    flood, later = make_clicks(200, 50), make_clicks(5, 9_000, start=START + 1_200_000)
    others = make_clicks(10, 9_000, user="u2")
    harness = run_records([*flood, *others, *later])

    assert {action.user_id for action in list_quarantined(harness.log)} == {"u1"}
    assert not {action.event_id for action in list_quarantined(harness.log)} & {
        f"u1-{START + 1_200_000}-{n}" for n in range(5)
    }


def test_long_flood_stays_quarantined() -> None:
    harness = run_records(make_clicks(2_000, 300))

    assert len(list_quarantined(harness.log)) > 1_950


def test_user_alarm_fires_at_most_once_an_hour() -> None:
    harness = run_records(
        [
            *make_clicks(100, 0),
            *make_clicks(100, 0, start=START + HOUR_MS // 2),
            *make_clicks(100, 0, start=START + 2 * HOUR_MS),
        ]
    )

    assert [alarm.ts // HOUR_MS - START // HOUR_MS for alarm in read_alarms(harness.log)] == [0, 2]


def test_crash_at_any_moment_quarantines_actions_exactly_once() -> None:
    records = [*make_clicks(60, 10), *make_clicks(20, 10)[5:15], *make_clicks(20, 9_000, user="u2")]
    baseline = run_records(records)
    topics = (QUARANTINE, ALARMS)
    expected = {topic: baseline.read_sorted(topic) for topic in topics}
    assert all(expected.values())
    for moment in range(baseline.injector.ticks):
        harness = run_records(records, injector=CrashInjector(moment))

        assert harness.crashes == 1
        assert collect_outputs(harness) == collect_outputs(baseline), f"crash at moment {moment}"
        assert {topic: harness.read_sorted(topic) for topic in topics} == expected, f"crash at moment {moment}"


def test_micro_batch_boundaries_do_not_change_the_quarantine() -> None:
    outcomes = []
    for batch in (1, 7, 5000):
        settings = make_settings(batch=batch, partitions=1).model_copy(update={"guard": LIMITS})
        harness = StreamHarness(settings)
        harness.write_records({0: make_clicks(120, 40)})
        harness.catch_up()
        outcomes.append((collect_outputs(harness), [action.event_id for action in list_quarantined(harness.log)]))

    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_released_action_counts_once_and_dropped_never() -> None:
    harness = run_records(make_clicks(60, 10))
    first, second, *_ = quarantined = list_quarantined(harness.log)
    before = decode_profile(harness.read_users()[hash_id("u1")]).counts.sum()
    release(harness.log, [first])
    release(harness.log, [first])
    drop(harness.log, [second])
    harness.catch_up()
    harness.restart()
    harness.write_records({0: [(b"u1", bytes(action.event)) for action in quarantined]})
    harness.catch_up()
    profile = decode_profile(harness.read_users()[hash_id("u1")])

    assert list_quarantined(harness.log) == quarantined[2:]
    assert profile.counts.sum() == before + 1
    assert describe(profile)["history"][-1]["event_id"] == first.event_id


def test_event_in_an_array_is_released_alone() -> None:
    array = [msgspec.json.decode(value or b"") for _, value in make_clicks(100, 0)]
    harness = run_records([(b"u1", msgspec.json.encode(array))])
    action = list_quarantined(harness.log)[0]

    assert msgspec.json.decode(action.event)["event_id"] == action.event_id

    release(harness.log, [action])
    harness.catch_up()

    assert int((harness.read_rows(0).kind == Kind.action).sum()) == 100 - len(list_quarantined(harness.log))


def test_quarantined_rows_match_no_impression() -> None:
    harness = run_records(
        [
            make_impression(),
            *make_clicks(90, 1, items=1, impression_id="r1"),
            make_record(event_id="z", ts=START + 9_000_000, item_id="z"),
        ]
    )
    rows = harness.read_rows(0)

    assert (rows.impression[rows.kind == Kind.held] == 0).all()
    assert np.isin(Kind.closed, rows.kind)


def run_with_ban(injector: CrashInjector | None = None, item: str = "i0") -> StreamHarness:
    """Ban a user from an item between two rounds of clicks on it and on another item."""
    harness = make_harness(injector=injector)
    harness.write_records({0: make_clicks(10, 9_000, items=2)})
    harness.catch_up()
    end_ts = START + HOUR_MS
    harness.write_records(
        {0: [(BAN_KEY_PREFIX + b"u1", msgspec.json.encode(Ban(item, end_ts))), (BAN_KEY_PREFIX + b"u9", b"no ban")]},
        USERS,
    )
    harness.catch_up()
    harness.write_records(
        {0: [*make_clicks(10, 9_000, items=2, start=START + 1_000_000), *make_clicks(10, 9_000, "u2", items=2)]}
    )
    harness.write_records({0: make_clicks(10, 9_000, items=2, start=end_ts)})
    harness.catch_up()
    return harness


def test_item_ban_quarantines_only_that_item_until_it_ends() -> None:
    harness = run_with_ban()
    quarantined = list_quarantined(harness.log)

    assert {(action.user_id, action.item_id, action.detector) for action in quarantined} == {("u1", "i0", "shilling")}
    assert len(quarantined) == 5
    assert decode_profile(harness.read_users()[hash_id("u1")]).counts.sum() == 25
    assert harness.log.end_offset(ALARMS, 0) == 0


def test_full_ban_quarantines_every_action_until_it_ends() -> None:
    quarantined = list_quarantined(run_with_ban(item=ANY_ITEM).log)

    assert {(action.user_id, action.item_id) for action in quarantined} == {("u1", "i0"), ("u1", "i1")}
    assert len(quarantined) == 10


def test_ban_survives_a_crash_at_any_moment() -> None:
    baseline = run_with_ban()
    for moment in range(baseline.injector.ticks):
        harness = run_with_ban(CrashInjector(moment))

        assert collect_outputs(harness) == collect_outputs(baseline), f"crash at moment {moment}"
        assert sorted(list_quarantined(harness.log), key=lambda action: action.offset) == list_quarantined(baseline.log)
