"""A user, or a producer under any number of users, moves an item only so far in a day."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.state.contribution_caps import CapSettings, ContributionCaps
from online_models.state.item_table import ItemTable
from stream.clock import DAY_MS
from stream.records.batches import ExampleBatch, Kind
from tests.support.batches import ITEMS, START, make_batch, make_lists, make_queries

SETTINGS = CapSettings()
PRODUCER_DAILY = SETTINGS.producer_daily


def make_actions(items: list[int], producer: int = 0, ts: int = START) -> ExampleBatch:
    """Return an action on each item, each by another user."""
    n = len(items)
    queries = make_queries(n, [[]] * n, np.full(n, ts))
    batch = make_batch([Kind.action] * n, queries, make_lists([[item] for item in items]), np.zeros(n, np.uint64))
    return replace(batch, producer=np.full(n, producer, np.uint64))


def count_capped(caps: ContributionCaps, batch: ExampleBatch) -> int:
    is_capped, _ = caps.update(batch)
    return int(is_capped.sum())


def test_producer_counts_at_most_twice_as_often_as_all_others() -> None:
    caps = ContributionCaps()
    caps.update(make_actions([1], producer=7))
    caps.update(make_actions([1] * 80))
    is_capped, _ = caps.update(make_actions([1] * 300 + [2] * 100, producer=7))

    assert np.flatnonzero(~is_capped[:300]).size == 2 * 80 - 1
    assert not is_capped[300:].any()


def test_other_producers_are_not_capped() -> None:
    caps = ContributionCaps()
    caps.update(make_actions([1] * 500, producer=7))

    assert count_capped(caps, make_actions([1] * 500)) == 0
    assert count_capped(caps, make_actions([1] * PRODUCER_DAILY, producer=8)) == 0


def test_excess_is_reported_once_a_day_per_item() -> None:
    caps, violations = ContributionCaps(), []
    for n in range(60):
        _, exceeded = caps.update(make_actions([1] * 10, producer=7, ts=START + n))
        violations += [(violation.producer, violation.item) for violation in exceeded]

    assert violations == [(7, int(ITEMS[1]))]
    assert count_capped(caps, make_actions([1] * PRODUCER_DAILY, producer=7, ts=START + DAY_MS)) == 0
    assert SETTINGS.alarm_excess + PRODUCER_DAILY < 600


def test_events_without_a_producer_need_no_memory() -> None:
    caps = ContributionCaps()
    caps.update(make_actions([1, 2, 3]))

    assert caps.state()["pairs.keys"].size == caps.state()["items.keys"].size == 0


def test_restored_caps_continue_the_count() -> None:
    caps, restored = ContributionCaps(), ContributionCaps()
    caps.update(make_actions([1] * PRODUCER_DAILY, producer=7))
    restored.restore(caps.state())

    assert count_capped(restored, make_actions([1], producer=7)) == 1
    assert count_capped(ContributionCaps(), make_actions([1], producer=7)) == 0


def test_user_cap_holds_for_any_producer() -> None:
    queries = make_queries(1, [[0] * SETTINGS.user_daily], np.array([START]))
    batch = make_batch([Kind.action], queries, make_lists([[0]]), np.zeros(1, np.uint64))

    assert count_capped(ContributionCaps(), batch) == 1


def test_capped_actions_count_in_the_totals_only() -> None:
    batch, items = make_actions([1] * 150, producer=7), ItemTable()
    items.add_keys(ITEMS[:3])
    items.learn(batch, ContributionCaps().update(batch)[0])

    assert items.counters["total_counts"][1].sum() == 150
    assert round(float(items.counters["counts"][1].sum(axis=0)[-1])) == PRODUCER_DAILY


@pytest.mark.parametrize("bad", [{"user_daily": 0}, {"producer_daily": 0}, {"others_factor": -1}], ids=str)
def test_settings_reject_bad_values(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least"):
        CapSettings(**bad)
