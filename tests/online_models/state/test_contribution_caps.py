"""A person moves an item so far a day, a producer hardly farther than all others, whoever's name it uses."""

from dataclasses import replace

import numpy as np

from online_models.state.contribution_caps import ALARM_EXCESS, PRODUCER_DAILY_FLOOR, USER_DAILY_CAP, ContributionCaps
from online_models.state.item_table import ItemTable
from stream.records.batches import ExampleBatch, Kind
from tests.support.batches import ITEMS, START, batch_of, lists, questions

DAY = 86_400_000


def acts(items: list[int], producer: int = 0, ts: int = START) -> ExampleBatch:
    """Actions of as many people."""
    n = len(items)
    batch = batch_of([Kind.action] * n, questions(n, [[]] * n, np.full(n, ts)), lists([[item] for item in items]),
                     np.zeros(n, np.uint64))  # fmt: skip
    return replace(batch, producer=np.full(n, producer, np.uint64))


def test_a_producer_beyond_its_least_counts_twice_as_often_as_all_others() -> None:
    caps = ContributionCaps()
    caps.update(acts([1], producer=7))
    caps.update(acts([1] * 80))
    capped = caps.update(acts([1] * 300 + [2] * 100, producer=7))

    assert np.flatnonzero(~capped[:300]).size == 2 * 80 - 1
    assert not capped[300:].any()


def test_others_and_those_who_name_nobody_are_not_capped_by_it() -> None:
    caps = ContributionCaps()
    caps.update(acts([1] * 500, producer=7))

    assert caps.update(acts([1] * 500)).sum() == 0
    assert caps.update(acts([1] * PRODUCER_DAILY_FLOOR, producer=8)).sum() == 0


def test_it_is_told_once_a_day_for_each_item_and_forgotten_the_next() -> None:
    caps, told = ContributionCaps(), []
    for n in range(60):
        caps.update(acts([1] * 10, producer=7, ts=START + n))
        told += [(one.producer, one.item) for one in caps.violations]

    assert told == [(7, int(ITEMS[1]))]
    assert caps.update(acts([1] * PRODUCER_DAILY_FLOOR, producer=7, ts=START + DAY)).sum() == 0
    assert ALARM_EXCESS + PRODUCER_DAILY_FLOOR < 600


def test_who_names_nobody_costs_no_memory() -> None:
    caps = ContributionCaps()
    caps.update(acts([1, 2, 3]))

    assert caps.state()["pairs.keys"].size == caps.state()["items.keys"].size == 0


def test_what_was_counted_goes_with_the_state() -> None:
    caps, again, older = ContributionCaps(), ContributionCaps(), ContributionCaps()
    caps.update(acts([1] * PRODUCER_DAILY_FLOOR, producer=7))
    again.restore(caps.state())
    older.restore({})

    assert again.update(acts([1], producer=7)).all()
    assert not older.update(acts([1], producer=7)).any()


def test_one_person_counts_so_often_whatever_producer_they_use() -> None:
    asked = questions(1, [[0] * USER_DAILY_CAP], np.array([START]))
    batch = batch_of([Kind.action], asked, lists([[0]]), np.zeros(1, np.uint64))

    assert ContributionCaps().update(batch).tolist() == [True]


def test_what_is_capped_lifts_no_item_but_is_told_of_it() -> None:
    batch, items = acts([1] * 150, producer=7), ItemTable()
    items.add_keys(ITEMS[:3])
    items.learn(batch, ContributionCaps().update(batch))

    assert items.counters["total_counts"][1].sum() == 150
    assert round(float(items.counters["counts"][1].sum(axis=0)[-1])) == PRODUCER_DAILY_FLOOR
