"""Covisitation against a plain restatement, and the cells that its changes carry."""

from collections import defaultdict

import numpy as np
import pytest

from online_models.retrievers.covisitation import CovisitationRetriever, CovisitSettings
from online_models.state.workspace import Workspace
from stream.clock import DAY_MS
from tests.support.batches import ITEMS, START
from tests.support.retriever_inputs import make_actions, make_items, make_users, random_walks


def test_pairs_have_decayed_weights() -> None:
    items = make_items()
    settings = CovisitSettings(half_life=10 * 86_400.0, window=3, backward=0.5, decay=0.8)
    covisitation = CovisitationRetriever(items, settings)
    expected: dict[tuple[int, int], float] = defaultdict(float)
    end = random_walks()[-1][2]
    for history, item, ts in random_walks():
        covisitation.learn(make_actions(items, [history], [item], [ts]))
        decay = 2.0 ** ((ts - end) / (10 * DAY_MS))
        for back, other in enumerate(history[::-1][:3]):
            if other != item:
                expected[other, item] += decay * 0.8**back
                expected[item, other] += decay * 0.8**back * 0.5
    table = covisitation.table
    rows = table.lookup(ITEMS[:12])
    unit = np.exp2((table["base"][rows] - end) / (10 * DAY_MS))
    weights = {
        (a, int(b)): float(table["weight"][row, j] * unit[a])
        for a, row in enumerate(rows)
        for j, b in enumerate(table["neighbor"][row])
        if b >= 0
    }

    assert weights == pytest.approx(dict(expected), rel=1e-3)


def test_weights_stay_finite_over_many_half_lives() -> None:
    items = make_items()
    covisitation = CovisitationRetriever(items, CovisitSettings(half_life=3_600.0))
    for step in range(200):
        covisitation.learn(make_actions(items, [[0, 1]], [2], [START + step * DAY_MS]))
    found = covisitation.retrieve(make_users(items, [[1]], [START + 200 * DAY_MS]), 3)

    assert np.isfinite(covisitation.table["weight"][:3]).all()
    assert found[0, 0] == 2


def test_new_neighbor_replaces_the_weakest() -> None:
    items = make_items()
    covisitation = CovisitationRetriever(items, CovisitSettings(neighbors=64))
    for item in range(1, 101):
        for _ in range(1 + (item > 40)):
            covisitation.learn(make_actions(items, [[0]], [item], [START]))
    neighbors = covisitation.table["neighbor"][covisitation.table.lookup(ITEMS[:1])[0]]

    assert set(range(41, 101)) <= set(neighbors.tolist())


def test_replica_has_the_same_bits() -> None:
    items, settings = make_items(), CovisitSettings(half_life=86_400.0)
    learner, replica = CovisitationRetriever(items, settings), CovisitationRetriever(items, settings)
    for history, item, ts in random_walks():
        learner.learn(make_actions(items, [history], [item], [ts]))
        replica.apply(learner.changes())
    expected, state = learner.state(), replica.state()

    assert all(state[name].tobytes() == expected[name].tobytes() for name in expected)


def test_action_changes_few_cells() -> None:
    items = make_items()
    covisitation = CovisitationRetriever(items)
    covisitation.learn(make_actions(items, [[0, 1, 2]], [3], [START]))
    covisitation.changes()
    covisitation.learn(make_actions(items, [[0, 1, 2]], [3], [START + 1]))

    assert covisitation.changes()["cells"].size == 6


def test_retrieval_leaves_the_workspace_clean() -> None:
    items, workspace = make_items(), Workspace()
    covisitation = CovisitationRetriever(items, workspace=workspace)
    covisitation.learn(make_actions(items, [[0, 1, 2]], [3], [START]))
    covisitation.retrieve(make_users(items, [[0, 1]]), 5)

    assert (workspace.entry_index == -1).all()


@pytest.mark.parametrize("bad", [{"half_life": 0.0}, {"decay": 0.0}, {"recency_decay": 1.5}, {"depth": 0}], ids=str)
def test_settings_reject_bad_values(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        CovisitSettings(**bad)  # type: ignore[arg-type]
