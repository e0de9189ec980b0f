import numpy as np

from online_models.retrievers.candidates import Exclusions
from online_models.retrievers.session_knn import SessionKNN, SessionSettings
from online_models.state.workspace import Workspace
from stream.clock import DAY_MS, MINUTE_MS
from tests.support.batches import START
from tests.support.retriever_inputs import make_actions, make_items, make_users, random_walks


def test_sessions_with_the_latest_item_are_neighbors() -> None:
    items = make_items()
    sessions = SessionKNN(items)
    for user in range(20):
        group = [user % 4 * 10 + j for j in range(4)]
        for j, item in enumerate(group):
            sessions.learn(make_actions(items, [group[:j]], [item], [START + user * DAY_MS + j * MINUTE_MS]))
    users = make_users(items, [[20]])
    found = sessions.retrieve(users, 3, exclusions=Exclusions(np.array([0, 1]), users.history))

    assert set(found[0].tolist()) == {21, 22, 23}


def test_replaced_session_is_skipped() -> None:
    items, workspace = make_items(), Workspace()
    sessions = SessionKNN(items, SessionSettings(slots=2), workspace)
    for step in range(50):
        sessions.learn(make_actions(items, [[]], [step], [START + step * DAY_MS]))
    found = sessions.retrieve(make_users(items, [[0, 1]]), 5)

    assert (found == -1).all()
    assert (workspace.entry_index == -1).all()


def test_replica_has_the_same_bits() -> None:
    items, settings = make_items(), SessionSettings(slots=64, per_item=64)
    learner, replica = SessionKNN(items, settings), SessionKNN(items, settings)
    for history, item, ts in random_walks():
        learner.learn(make_actions(items, [history], [item], [ts]))
        replica.apply(learner.changes())
    expected, state = learner.state(), replica.state()

    assert all(state[name].tobytes() == expected[name].tobytes() for name in expected)
