"""Co-visits and sessions against plain restatements, and the cells that their changes carry."""

from collections import defaultdict

import numpy as np
import pytest

from online_models.retrievers.covisitation import CovisitationRetriever, CovisitSettings
from online_models.retrievers.session_knn import SessionKNN, SessionSettings
from online_models.retrievers.top_k import Exclusions, empty_exclusions
from online_models.state.item_table import Actions, ItemTable
from online_models.state.workspace import Workspace
from tests.support.batches import ITEMS, START, questions

DAY = 86_400_000


def known_items() -> tuple[ItemTable, Workspace]:
    items, scratch = ItemTable(), Workspace()
    items.add_keys(ITEMS)
    scratch.reserve(len(items))
    return items, scratch


def actions(items: ItemTable, histories: list[list[int]], chosen: list[int], ts: list[int]) -> Actions:
    people = items.resolve_queries(questions(len(chosen), histories, np.array(ts, np.int64)))
    return Actions(people, np.array(chosen, np.int32), np.array(ts, np.int64))


def walks(seed: int = 0) -> list[tuple[list[int], int, int]]:
    """(history, item, ts) in order of time, of ten people."""
    rng = np.random.default_rng(seed)
    histories: dict[int, list[int]] = defaultdict(list)
    made = []
    for step in range(600):
        person, item = int(rng.integers(10)), int(rng.integers(12))
        made.append((histories[person][-5:], item, START + step * DAY // 4))
        histories[person].append(item)
    return made


def test_pairs_are_counted_with_their_fading_weights() -> None:
    items, scratch = known_items()
    setting = CovisitSettings(half_life=10 * 86_400.0, window=3, backward=0.5, decay=0.8)
    covisits = CovisitationRetriever(items, scratch, setting)
    expected: dict[tuple[int, int], float] = defaultdict(float)
    end = walks()[-1][2]
    for history, item, ts in walks():
        covisits.learn(actions(items, [history], [item], [ts]))
        kept = 2.0 ** ((ts - end) / (10 * DAY))
        for back, other in enumerate(history[::-1][:3]):
            if other != item:
                expected[other, item] += kept * 0.8**back
                expected[item, other] += kept * 0.8**back * 0.5
    table = covisits.table
    rows = table.lookup(ITEMS[:12])
    unit = np.exp2((table["base"][rows] - end) / (10 * DAY))
    got = {
        (a, int(b)): float(table["weight"][row, j] * unit[a])
        for a, row in enumerate(rows)
        for j, b in enumerate(table["neighbor"][row])
        if b >= 0
    }

    assert got == pytest.approx(dict(expected), rel=1e-3)


def test_weights_stay_finite_over_many_half_lives() -> None:
    items, scratch = known_items()
    covisits = CovisitationRetriever(items, scratch, CovisitSettings(half_life=3_600.0))
    for step in range(200):
        covisits.learn(actions(items, [[0, 1]], [2], [START + step * DAY]))
    asked = items.resolve_queries(questions(1, [[1]], np.array([START + 200 * DAY])))
    found = covisits.retrieve(asked, 3, np.ones(1024, np.uint8), empty_exclusions(1))

    assert np.isfinite(covisits.table["weight"][:3]).all()
    assert found[0, 0] == 2


def test_the_weakest_neighbour_makes_room() -> None:
    items, scratch = known_items()
    covisits = CovisitationRetriever(items, scratch, CovisitSettings(neighbors=64))
    for item in range(1, 101):
        for _ in range(1 + (item > 40)):
            covisits.learn(actions(items, [[0]], [item], [START]))
    neighbours = covisits.table["neighbor"][covisits.table.lookup(ITEMS[:1])[0]]

    assert set(range(41, 101)) <= set(neighbours.tolist())


@pytest.mark.parametrize("kind", ["covisit", "sessions"])
def test_a_follower_of_changes_holds_the_same_bits(kind: str) -> None:
    items, scratch = known_items()

    def made() -> CovisitationRetriever | SessionKNN:
        if kind == "covisit":
            return CovisitationRetriever(items, scratch, CovisitSettings(half_life=86_400.0))
        return SessionKNN(items, scratch, SessionSettings(slots=64, per_item=64))

    learner, follower = made(), made()
    for history, item, ts in walks():
        learner.learn(actions(items, [history], [item], [ts]))
        follower.apply(learner.changes())
    there, here = follower.state(), learner.state()

    assert all(there[name].tobytes() == here[name].tobytes() for name in here)


def test_one_action_changes_a_few_cells() -> None:
    items, scratch = known_items()
    covisits = CovisitationRetriever(items, scratch, CovisitSettings())
    covisits.learn(actions(items, [[0, 1, 2]], [3], [START]))
    covisits.changes()
    covisits.learn(actions(items, [[0, 1, 2]], [3], [START + 1]))

    assert covisits.changes()["cells"].size == 6


def test_sessions_find_what_stood_beside_the_last_item() -> None:
    items, scratch = known_items()
    sessions = SessionKNN(items, scratch)
    for person in range(20):
        group = [person % 4 * 10 + j for j in range(4)]
        for j, item in enumerate(group):
            act = actions(items, [group[:j]], [item], [START + person * DAY + j * 60_000])
            sessions.learn(act)
    people = items.resolve_queries(questions(1, [[20]], np.array([START])))
    found = sessions.retrieve(people, 3, np.ones(1024, np.uint8), Exclusions(np.array([0, 1]), people.history))

    assert set(found[0].tolist()) == {21, 22, 23}


def test_a_session_that_was_overwritten_is_passed_over() -> None:
    items, scratch = known_items()
    sessions = SessionKNN(items, scratch, SessionSettings(slots=2))
    for step in range(50):
        sessions.learn(actions(items, [[]], [step], [START + step * DAY]))
    people = items.resolve_queries(questions(1, [[0, 1]], np.array([START])))
    found = sessions.retrieve(people, 5, np.ones(1024, np.uint8), empty_exclusions(1))

    assert (found == -1).all()
    assert (scratch.entry_index == -1).all()
