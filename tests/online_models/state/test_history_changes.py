"""Counts and co-visits after a retraction equal those of a log without the action."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.retrievers.covisitation import CovisitationRetriever, CovisitSettings
from online_models.retrievers.item_regression.ease import EaseRetriever
from online_models.retrievers.leaderboards.popular import PopularRetriever
from online_models.retrievers.session_knn import SessionKNN
from online_models.state.history_changes import HistoryChanges, find_retractions, uncount
from online_models.state.item_table import HORIZONS, ItemTable
from stream.clock import MINUTE_MS
from stream.records.batches import EventType, ExampleBatch, Kind
from tests.support.batches import ITEMS, START, make_batch, make_lists, make_queries
from tests.support.retriever_inputs import make_actions, make_items, make_users

ACTIONS = [3, 5, 7, 3, 9, 11, 5, 2, 8, 13, 1, 6]  # items of one user, a minute apart
REMOVAL, MERGE = np.zeros(1, np.bool_), np.ones(1, np.bool_)


def learn_all(
    retriever: CovisitationRetriever | EaseRetriever | PopularRetriever | SessionKNN,
    items: ItemTable,
    numbers: list[int],
) -> None:
    for n, item in enumerate(numbers):
        retriever.learn(make_actions(items, [numbers[:n]], [item], [START + n * MINUTE_MS]))


def read_pairs(covisitation: CovisitationRetriever) -> dict[tuple[int, int], float]:
    table, ids = covisitation.table, {key: n for n, key in enumerate(ITEMS.tolist())}
    unit = np.exp2((table["base"][: len(table)] - START) / covisitation._half_life_ms)
    return {
        (ids[key], int(b)): float(table["weight"][row, j] * unit[row])
        for row, key in enumerate(table.keys.tolist())
        for j, b in enumerate(table["neighbor"][row])
        if b >= 0
    }


def read_item_pairs(ease: EaseRetriever) -> dict[tuple[int, int], float]:
    state = ease.state()
    item = state["item"].tolist()
    return {(item[i], item[j]): float(state["pairs"][i, j]) for i, j in np.argwhere(state["pairs"] > 0).tolist()}


@pytest.mark.parametrize("removed", [0, 3, 5, 11])
def test_co_visits_of_a_removed_action_are_gone(removed: int) -> None:
    items = make_items()
    settings = CovisitSettings(window=4)
    covisitation, expected = CovisitationRetriever(items, settings), CovisitationRetriever(items, settings)
    learn_all(covisitation, items, ACTIONS)
    users = make_users(items, [ACTIONS], [START + len(ACTIONS) * MINUTE_MS])
    changes = HistoryChanges(users, np.arange(len(ACTIONS)) == removed, np.array([ACTIONS[removed]], np.int32), REMOVAL)
    covisitation.relearn(changes)
    rest = [(n, item) for n, item in enumerate(ACTIONS) if n != removed]
    numbers = [item for _, item in rest]
    for position, (n, item) in enumerate(rest):
        expected.learn(make_actions(items, [numbers[:position]], [item], [START + n * MINUTE_MS]))

    pairs, reference = read_pairs(covisitation), read_pairs(expected)
    assert pairs == pytest.approx(reference, rel=1e-4)
    rows = covisitation.table.lookup(ITEMS)
    totals = covisitation.table["total"][rows] * np.exp2(
        (covisitation.table["base"][rows] - START) / covisitation._half_life_ms
    )
    sums = [sum(weight for (a, _), weight in reference.items() if a == n) for n in range(ITEMS.size)]
    assert totals[rows >= 0] == pytest.approx(np.array(sums)[rows >= 0], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("removed", [{0}, {3}, {0, 3}, {4, 5}, {11}], ids=str)
def test_ease_counts_of_removed_actions_are_gone(removed: set[int]) -> None:
    items = make_items()
    ease, expected = EaseRetriever(items), EaseRetriever(items)
    learn_all(ease, items, ACTIONS)
    learn_all(expected, items, [item for n, item in enumerate(ACTIONS) if n not in removed])
    users = make_users(items, [ACTIONS], [START + len(ACTIONS) * MINUTE_MS])
    is_removed = np.isin(np.arange(len(ACTIONS)), list(removed))
    ease.relearn(HistoryChanges(users, is_removed, np.zeros(0, np.int32), REMOVAL))

    assert read_item_pairs(ease) == read_item_pairs(expected)


def test_ease_counts_of_a_merge_are_those_of_one_history() -> None:
    items = make_items()
    ease, expected = EaseRetriever(items), EaseRetriever(items)
    learn_all(ease, items, ACTIONS[:5])
    learn_all(ease, items, ACTIONS[5:])
    learn_all(expected, items, ACTIONS)
    users = make_users(items, [ACTIONS], [START + len(ACTIONS) * MINUTE_MS])
    ease.relearn(HistoryChanges(users, np.arange(len(ACTIONS)) >= 5, np.zeros(0, np.int32), np.ones(1, np.bool_)))

    assert read_item_pairs(ease) == read_item_pairs(expected)


def test_replica_applies_relearned_pairs() -> None:
    items = make_items()
    covisitation, replica = CovisitationRetriever(items), CovisitationRetriever(items)
    learn_all(covisitation, items, ACTIONS)
    replica.apply(covisitation.changes())
    users = make_users(items, [ACTIONS], [START + len(ACTIONS) * MINUTE_MS])
    covisitation.relearn(HistoryChanges(users, np.arange(len(ACTIONS)) == 4, np.array([9], np.int32), REMOVAL))
    replica.apply(covisitation.changes())

    state, copy = covisitation.state(), replica.state()
    assert all(np.array_equal(state[name], copy[name]) for name in state)


def make_retraction(removed: int) -> ExampleBatch:
    queries = make_queries(1, [ACTIONS], np.array([START + len(ACTIONS) * MINUTE_MS]))
    batch = make_batch([Kind.retracted], queries, make_lists([[ACTIONS[removed]]]), np.zeros(1, np.uint64))
    lists = replace(batch.lists, position=np.array([removed], np.int16))
    return replace(batch, type=np.array([EventType.click], np.uint8), lists=lists)


def count(items: ItemTable, numbers: list[tuple[int, int]]) -> None:
    for n, item in numbers:
        queries = make_queries(1, [[]], np.array([START + n * MINUTE_MS]))
        items.learn(make_batch([Kind.action], queries, make_lists([[item]], shown=False), np.zeros(1, np.uint64)))


@pytest.mark.parametrize("removed", [0, 3, 6])
def test_counts_of_a_removed_action_are_gone(removed: int) -> None:
    items, expected = make_items(), make_items()
    count(items, list(enumerate(ACTIONS)))
    count(expected, [(n, item) for n, item in enumerate(ACTIONS) if n != removed])
    found = find_retractions(make_retraction(removed), items)
    assert found is not None
    uncount(items, found[0])

    row = ACTIONS[removed]
    assert items.counters["total_counts"][row].tolist() == expected.counters["total_counts"][row].tolist()
    age = (items.counters["stamp"][row] - expected.counters["stamp"][row]) / 1000
    decayed = expected.counters["counts"][row] * (2.0 ** (-age / HORIZONS) if age < 1e9 else 0.0)
    assert items.counters["counts"][row] == pytest.approx(decayed, rel=1e-4, abs=1e-6)


def test_item_without_actions_leaves_the_board() -> None:
    items = make_items()
    popular = PopularRetriever(items)
    count(items, list(enumerate(ACTIONS)))
    learn_all(popular, items, ACTIONS)
    found = find_retractions(make_retraction(4), items)
    assert found is not None
    uncount(items, found[0])
    popular.relearn(found[1])

    rows = popular.rank(START, 60, np.ones(ITEMS.size, np.uint8))
    assert set(rows[rows >= 0].tolist()) == set(ACTIONS) - {9}


def test_removed_item_leaves_its_session() -> None:
    items = make_items()
    sessions, expected = SessionKNN(items), SessionKNN(items)
    rest = [item for n, item in enumerate(ACTIONS) if n != 4]
    learn_session(sessions, items, ACTIONS)
    learn_session(expected, items, rest)
    users = make_users(items, [ACTIONS], [START + len(ACTIONS) * MINUTE_MS])
    sessions.relearn(HistoryChanges(users, np.arange(len(ACTIONS)) == 4, np.array([9], np.int32), REMOVAL))

    contents = [set(part.state()["store.content"].max(axis=0).tolist()) for part in (sessions, expected)]
    assert contents[0] == contents[1]


def learn_session(sessions: SessionKNN, items: ItemTable, numbers: list[int]) -> None:
    """Learn actions of the session that the user is in after `ACTIONS`."""
    for n, item in enumerate(numbers):
        actions = make_actions(items, [numbers[:n]], [item], [START + n * MINUTE_MS])
        start = np.array([START])
        queries = replace(actions.users.queries, session_start=start)
        sessions.learn(replace(actions, users=replace(actions.users, queries=queries)))
