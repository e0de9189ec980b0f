from dataclasses import replace

import numpy as np
import pytest

from online_models.state.contribution_caps import CLICKED, SHOWN, VALUED, VIEWED, CapSettings, over_user_cap
from online_models.state.item_table import HORIZONS, NO_TIME, ItemTable, select_actions
from stream.clock import DAY_MS, HOUR_MS
from stream.records.batches import EventType, ExampleBatch, Kind
from stream.records.signs import type_signs
from tests.support.batches import ITEMS, START, make_batch, make_lists, make_queries

USER_DAILY = CapSettings().user_daily


def make_row(kind: Kind, item: int, ts: int, type_: EventType = EventType.click, value: float = np.nan) -> ExampleBatch:
    batch = make_batch([kind], make_queries(1, [[]], np.array([ts])), make_lists([[item]]), np.zeros(1, np.uint64))
    types = np.array([type_], np.uint8)
    return replace(batch, type=types, sign=type_signs(types), value=np.array([value], np.float32))


def count(*batches: ExampleBatch) -> ItemTable:
    items = ItemTable()
    for batch in batches:
        items.add_keys(batch.lists.item)
        items.learn(batch)
    return items


def test_users_of_very_many_actions_count_less() -> None:
    full_rate = CapSettings().user_full_rate
    row = make_row(Kind.action, 0, START)
    cases = ((0.0, 1.0), (full_rate, 1.0), (50 * full_rate, 1 / 50), (np.nan, 1.0), (-3e38, 1.0), (np.inf, 0.0))
    for rate, weight in cases:
        rates = np.zeros((1, len(EventType)), np.float32)
        rates[0, EventType.purchase] = rate
        items = count(replace(row, queries=replace(row.queries, rates=rates)))

        assert items.counters["counts"][0, CLICKED].tolist() == pytest.approx([weight] * HORIZONS.size, abs=1e-9)
        assert items.counters["total_counts"][0, EventType.click] == 1


def test_low_rating_is_no_sign_of_interest() -> None:
    low = replace(make_row(Kind.action, 0, START, EventType.rating, 1.0), sign=np.array([-1], np.int8))
    items = count(low)
    actions, rows = select_actions(low, items, items.resolve_queries(low.queries), np.zeros(1, np.bool_))

    assert not items.counters["counts"].any()
    assert items.counters["total_counts"][0, EventType.rating] == 1
    assert items.counters["rating"][0].tolist() == [1, 1]
    assert (len(actions), rows.size) == (0, 0)


@pytest.mark.parametrize("horizon", range(HORIZONS.size))
def test_count_halves_over_its_horizon(horizon: int) -> None:
    later = START + int(1000 * HORIZONS[horizon])
    items = count(make_row(Kind.action, 0, START), make_row(Kind.action, 0, later))

    assert items.counters["counts"][0, CLICKED, horizon] == pytest.approx(1.5)


def test_late_action_counts_as_if_it_had_come_in_time() -> None:
    late = count(make_row(Kind.action, 0, START + HOUR_MS), make_row(Kind.action, 0, START))
    timely = count(make_row(Kind.action, 0, START), make_row(Kind.action, 0, START + HOUR_MS))

    assert np.allclose(late.counters["counts"][0], timely.counters["counts"][0])


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (EventType.impression, SHOWN),
        (EventType.view, VIEWED),
        (EventType.dwell, VIEWED),
        (EventType.click, CLICKED),
        (EventType.purchase, VALUED),
        (EventType.rating, VALUED),
        (EventType.dislike, None),
    ],
)
def test_event_type_counts_by_its_kind(type_: EventType, kind: int | None) -> None:
    items = count(make_row(Kind.shown if type_ == EventType.impression else Kind.action, 0, START, type_))
    counted_kinds = np.flatnonzero(items.counters["counts"][0].any(axis=1)).tolist()

    assert counted_kinds == ([] if kind is None else [kind])
    assert items.counters["total_counts"][0, type_] == 1


@pytest.mark.parametrize("kind", [Kind.clicked, Kind.closed])
def test_rows_with_outcomes_are_not_counted_again(kind: Kind) -> None:
    assert count(make_row(kind, 0, START)).counters["total_counts"].sum() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_extreme_rating_is_ignored(value: float) -> None:
    extreme = make_row(Kind.action, 0, START, EventType.rating, value)
    items = count(extreme, make_row(Kind.action, 0, START, EventType.rating, 4))

    assert items.counters["rating"][0].tolist() == [4, 1]


def test_first_and_last_are_event_times() -> None:
    items = count(make_row(Kind.action, 0, START + 5), make_row(Kind.shown, 0, START + 9, EventType.impression))

    assert items.counters["first"][0] == START + 5
    assert items.counters["last"][0] == START + 5


@pytest.mark.parametrize(("n_before", "counts"), [(USER_DAILY - 1, True), (USER_DAILY, False)])
def test_user_counts_only_so_often_per_item_and_day(n_before: int, counts: bool) -> None:
    ts = np.array([START, START + 2 * DAY_MS, START])
    queries = make_queries(3, [[0] * n_before, [0] * n_before, [1] * n_before], ts)
    queries = replace(queries, history_ts=np.full(queries.history_item.size, START - 1))
    batch = make_batch([Kind.action] * 3, queries, make_lists([[0], [0], [0]]), np.zeros(3, np.uint64))
    batch = replace(batch, type=np.full(3, EventType.click, np.uint8))
    items = count(batch)
    _, rows = select_actions(batch, items, items.resolve_queries(batch.queries), over_user_cap(batch))

    assert rows.tolist() == [0, 1, 2][not counts :]
    assert items.counters["total_counts"][0, EventType.click] == 3


def test_dislike_is_no_action_of_interest() -> None:
    batch = make_row(Kind.action, 0, START, EventType.dislike)
    items = count(batch)
    actions, rows = select_actions(batch, items, items.resolve_queries(batch.queries), over_user_cap(batch))

    assert len(actions) == rows.size == 0


def test_item_without_a_catalog_date_has_no_time() -> None:
    items = ItemTable()
    items.add_keys(ITEMS[:1])

    assert items.catalog["created"][0] == NO_TIME


def test_click_changes_no_catalog_row() -> None:
    items = count(make_row(Kind.action, 0, START))
    items.changes()
    items.learn(make_row(Kind.action, 0, START + 1))
    changes = items.changes()

    assert changes["counters.rows"].tolist() == [0]
    assert changes["catalog.rows"].size == 0


def test_coverage_forgets_impressions_of_days_ago() -> None:
    items = count(*(make_row(Kind.shown, item, START, EventType.impression) for item in range(3)))
    items.learn(make_row(Kind.shown, 0, START + 3 * DAY_MS, EventType.impression))

    assert ItemTable().coverage_ratio() == 0
    assert items.coverage_ratio() == pytest.approx(1 / 3)
