"""Rankers keep what they know about a feature when others are added, removed or moved."""

import numpy as np
import pytest

from online_models.checks.rankers import FEATURES, generate_lists
from online_models.features.feature_names import encode_names, map_columns
from online_models.model import RecommenderModel, settings_with_seed
from online_models.plugins import create_ranker
from online_models.protocols import Ranker, RankerSettings
from online_models.rankers.click_head import ClickHead
from online_models.state.tables import State, substate
from tests.support.batches import generate_batches, make_lists, make_queries

MOVED = ("price", "new", "recency", "affinity", "popularity")  # without the constant
SETTINGS = RankerSettings(seed=3)


def train(features: tuple[str, ...]) -> tuple[Ranker, ClickHead]:
    ranker = create_ranker(features, SETTINGS)
    head = ClickHead(len(features) + ranker.width)
    for x, labels, start in generate_lists():
        ranker.learn(x, labels, start)
        head.learn(ranker.hidden(x), labels)
    return ranker, head


def test_moved_columns_give_the_same_predictions_and_a_new_one_counts_nothing() -> None:
    ranker, head = train(FEATURES)
    columns = map_columns(FEATURES, MOVED)
    other = create_ranker(MOVED, SETTINGS)
    state = other.convert_state(ranker.state(), columns)
    assert state is not None
    other.restore(state)
    other_head = ClickHead(len(MOVED) + other.width)
    other_head.restore(other_head.convert_state(head.state(), columns))
    x, _, start = generate_lists(1, seed=9)[0]
    moved = np.where(columns >= 0, x[:, columns], np.float32(50.0)).astype(np.float32)

    assert np.allclose(ranker.score(x, start), other.score(moved, start), atol=1e-5)
    assert np.allclose(head.predict(ranker.hidden(x)), other_head.predict(other.hidden(moved)), atol=1e-6)


def rename(state: State, features: tuple[str, ...], model: RecommenderModel) -> State:
    """State of a model over other features, with all that it knows about the common ones."""
    columns = map_columns(model.feature_names, features)
    renamed = state | {"ranker.features": encode_names(features)}
    for name, part in (("candidate_ranker", model.candidate_ranker), ("slate_ranker", model.slate_ranker)):
        converted = part.convert_state(substate(state, name), columns) or {}
        renamed |= {f"{name}.{key}": array for key, array in converted.items()}
    head = ClickHead(len(features) + model.slate_ranker.width)
    converted = head.convert_state(substate(state, "click_head"), columns)
    return renamed | {f"click_head.{key}": array for key, array in converted.items()}


@pytest.fixture(scope="module")
def model() -> RecommenderModel:
    model = RecommenderModel()
    for batch in generate_batches(12):
        model.learn(batch)
    return model


def score(model: RecommenderModel) -> np.ndarray:
    x = model.extract_features(make_queries(1, [[1, 2, 3]], np.array([2**41])), make_lists([list(range(1, 9))]))
    return np.concatenate([model.score(x), model.score_slate(x), model.predict_click_probability(x)])


def test_model_continues_with_moved_features(model: RecommenderModel) -> None:
    other = RecommenderModel()
    other.restore(rename(model.state(), model.feature_names[::-1], model))

    assert np.allclose(score(other), score(model), atol=1e-5)


def test_ranker_that_cannot_convert_its_state_starts_untrained(caplog: pytest.LogCaptureFixture) -> None:
    settings = settings_with_seed(0, "ftrl")
    model, other = RecommenderModel(settings), RecommenderModel(settings)
    for batch in generate_batches(2):
        model.learn(batch)
    other.restore(model.state() | {"ranker.features": encode_names(model.feature_names[::-1])})

    assert "starts untrained: its features have changed" in caplog.text
    assert score(other).tobytes() == score(untrained_copy(model)).tobytes()


def untrained_copy(model: RecommenderModel) -> RecommenderModel:
    """A model with the same items and other parts, and new rankers."""
    copy = RecommenderModel(model.settings)
    foreign = model.state() | {"ranker.name": np.frombuffer(b"another", np.uint8)}
    copy.restore(foreign)
    return copy


def test_replica_with_other_features_leaves_the_rankers_out(
    model: RecommenderModel, caplog: pytest.LogCaptureFixture
) -> None:
    learner, replica = RecommenderModel(), RecommenderModel()
    for state in (learner, replica):
        state.restore(model.state())
    before = replica.slate_ranker.state()["theta"].copy()
    learner.learn(generate_batches(13)[-1])
    changes = learner.changes()
    for _ in range(2):
        replica.apply(changes | {"ranker.features": encode_names(learner.feature_names[::-1])})

    assert np.array_equal(replica.slate_ranker.state()["theta"], before)
    assert replica.items.state()["counters.keys"].tobytes() == learner.items.state()["counters.keys"].tobytes()
    assert sum("its features differ" in record.message for record in caplog.records) == 1


def test_retriever_that_a_state_lacks_starts_untrained(
    model: RecommenderModel, caplog: pytest.LogCaptureFixture
) -> None:
    other = RecommenderModel()
    for batch in generate_batches(2):
        other.learn(batch)
    lacking = {name: array for name, array in model.state().items() if not name.startswith("ease.")}
    other.restore(lacking)
    state = other.state()

    assert not state["ease.actions"].any()
    assert (state["ease.item"] == -1).all()
    assert "ease starts untrained" in caplog.text
