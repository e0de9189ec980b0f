from dataclasses import replace

import numpy as np
import pytest

from online_models.state.contribution_caps import CLICKED, SHOWN, USER_DAILY_CAP, VALUED, VIEWED
from online_models.state.item_table import HORIZONS, NO_TIME, ItemTable, select_actions
from stream.records.batches import EventType, ExampleBatch, Kind
from tests.support.batches import ITEMS, START, batch_of, lists, questions


def one(kind: Kind, item: int, ts: int, type_: EventType = EventType.click, value: float = np.nan) -> ExampleBatch:
    batch = batch_of([kind], questions(1, [[]], np.array([ts])), lists([[item]]), np.zeros(1, np.uint64))
    return replace(batch, type=np.array([type_], np.uint8), value=np.array([value], np.float32))


def told(*batches: ExampleBatch) -> ItemTable:
    items = ItemTable()
    for batch in batches:
        items.add_keys(batch.lists.item)
        items.learn(batch)
    return items


@pytest.mark.parametrize("horizon", range(HORIZONS.size))
def test_a_count_halves_over_its_horizon(horizon: int) -> None:
    later = START + int(1000 * HORIZONS[horizon])
    items = told(one(Kind.action, 0, START), one(Kind.action, 0, later))

    assert items.counters["counts"][0, CLICKED, horizon] == pytest.approx(1.5)


def test_a_late_action_counts_as_much_as_if_it_had_come_in_time() -> None:
    hour = 3_600_000
    late = told(one(Kind.action, 0, START + hour), one(Kind.action, 0, START))
    timely = told(one(Kind.action, 0, START), one(Kind.action, 0, START + hour))

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
def test_types_are_counted_by_what_they_mean(type_: EventType, kind: int | None) -> None:
    items = told(one(Kind.shown if type_ == EventType.impression else Kind.action, 0, START, type_))
    counted = np.flatnonzero(items.counters["counts"][0].any(axis=1)).tolist()

    assert counted == ([] if kind is None else [kind])
    assert items.counters["total_counts"][0, type_] == 1


@pytest.mark.parametrize("kind", [Kind.clicked, Kind.closed])
def test_lists_with_outcomes_are_not_counted_again(kind: Kind) -> None:
    assert told(one(kind, 0, START)).counters["total_counts"].sum() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_a_wild_rating_is_not_averaged(value: float) -> None:
    items = told(one(Kind.action, 0, START, EventType.rating, value), one(Kind.action, 0, START, EventType.rating, 4))

    assert items.counters["rating"][0].tolist() == [4, 1]


def test_first_and_last_are_times_of_events() -> None:
    items = told(one(Kind.action, 0, START + 5), one(Kind.shown, 0, START + 9, EventType.impression))

    assert items.counters["first"][0] == START + 5
    assert items.counters["last"][0] == START + 5


@pytest.mark.parametrize(("met", "counts"), [(USER_DAILY_CAP - 1, True), (USER_DAILY_CAP, False)])
def test_what_one_person_does_with_one_item_counts_so_often_a_day(met: int, counts: bool) -> None:
    day = 86_400_000
    asked = questions(3, [[0] * met, [0] * met, [1] * met], np.array([START, START + 2 * day, START]))
    asked = replace(asked, history_ts=np.full(asked.history_item.size, START - 1))
    batch = batch_of([Kind.action] * 3, asked, lists([[0], [0], [0]]), np.zeros(3, np.uint64))
    batch = replace(batch, type=np.full(3, EventType.click, np.uint8))
    items = told(batch)
    _, rows = select_actions(batch, items, items.resolve_queries(batch.queries))

    assert rows.tolist() == [0, 1, 2][not counts :]
    assert items.counters["total_counts"][0, EventType.click] == 3


def test_a_dislike_is_no_action_to_learn_interest_from() -> None:
    batch = one(Kind.action, 0, START, EventType.dislike)
    items = told(batch)
    actions, rows = select_actions(batch, items, items.resolve_queries(batch.queries))

    assert len(actions) == rows.size == 0


def test_an_item_that_the_catalogue_does_not_date_has_no_time() -> None:
    items = ItemTable()
    items.add_keys(ITEMS[:1])

    assert items.catalog["created"][0] == NO_TIME


def test_a_click_does_not_send_the_catalogue_along() -> None:
    items = told(one(Kind.action, 0, START))
    items.changes()
    items.learn(one(Kind.action, 0, START + 1))
    changes = items.changes()

    assert changes["counters.rows"].tolist() == [0]
    assert changes["catalog.rows"].size == 0


def test_the_share_shown_forgets_what_was_shown_days_ago() -> None:
    days = 24 * 3_600_000
    shown = told(*(one(Kind.shown, item, START, EventType.impression) for item in range(3)))
    shown.learn(one(Kind.shown, 0, START + 3 * days, EventType.impression))

    assert ItemTable().coverage_ratio() == 0
    assert shown.coverage_ratio() == pytest.approx(1 / 3)
