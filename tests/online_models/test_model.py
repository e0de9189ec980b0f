"""Contracts of the recommender model with the learner, the replica and the evaluation."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.model import ModelSettings, RecommenderModel, settings_with_seed
from online_models.retrievers.candidates import Candidates, Channel, Exclusions
from online_models.state.item_table import NO_TIME
from online_models.state.tables import State, substate
from stream.records.batches import ExampleBatch, Kind, Queries
from tests.support.batches import ITEMS, START, find_group, generate_batches, make_batch, make_lists, make_queries


def copied(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def same_bits(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def train(batches: list[ExampleBatch], settings: ModelSettings | None = None) -> RecommenderModel:
    model = RecommenderModel(settings)
    for batch in batches:
        model.learn(batch)
        model.changes()
    return model


def make_query(history: list[int]) -> Queries:
    return make_queries(1, [history], np.array([START + 10_000_000]))


def retrieve(model: RecommenderModel, queries: Queries, k: int, eligible: np.ndarray | None = None) -> Candidates:
    return model.retrieve(model.items.resolve_queries(queries), k, eligible)


def score(model: RecommenderModel, queries: Queries, items: list[int]) -> tuple[bytes, bytes, bytes]:
    x = model.extract_features(queries, make_lists([items]))
    return model.score(x).tobytes(), model.score_slate(x).tobytes(), model.predict_click_probability(x).tobytes()


@pytest.fixture(scope="module")
def batches() -> list[ExampleBatch]:
    return generate_batches(24)


def test_training_leaves_the_batch_alone(batches: list[ExampleBatch]) -> None:
    batch = generate_batches(3, seed=5)[-1]
    before = copied(batch.queries.arrays()) | copied(batch.lists.arrays())
    train([*batches[:2], batch])

    assert same_bits(before, batch.queries.arrays() | batch.lists.arrays())


def test_predicting_leaves_the_state_alone(batches: list[ExampleBatch]) -> None:
    model = train(batches[:6])
    before = copied(model.state())
    found = retrieve(model, make_query([0, 8]), 30)
    score(model, make_query([0, 8]), [1, 2, 3])
    model.find_similar(int(found.row[0]), 5)

    assert same_bits(before, model.state())
    assert not any(
        model.changes()[f"{part}.rows"].size for part in ("covisitation", "two_tower.item_vectors", "items.counters")
    )


def test_the_same_seed_gives_the_same_state(batches: list[ExampleBatch]) -> None:
    assert same_bits(train(batches[:8]).state(), train(batches[:8]).state())


def test_a_restored_model_trains_to_the_same_bits(batches: list[ExampleBatch]) -> None:
    model, restored = train(batches[:8]), RecommenderModel()
    restored.restore(copied(model.state()))
    for batch in batches[8:12]:
        model.learn(batch)
        restored.learn(batch)

    assert same_bits(model.state(), restored.state())


def test_closed_impressions_train_the_bandit(batches: list[ExampleBatch]) -> None:
    model, half = RecommenderModel(), ITEMS.size // 2
    categories = np.zeros((ITEMS.size, 4), np.uint64)
    categories[:, 0] = np.where(np.arange(ITEMS.size) < half, 7, 9)
    model.set_item_attributes(ITEMS, categories, np.full(ITEMS.size, NO_TIME), np.full(ITEMS.size, np.nan, np.float32))
    for batch in batches[:4]:
        model.learn(batch)
    bandit = substate(model.state(), "bandit")

    assert set(bandit["keys"].tolist()) == {1, 2, 7, 9}
    assert (bandit["posterior"][2:, 1] != 0).all()


def test_a_replica_that_applies_changes_predicts_the_same_bits(batches: list[ExampleBatch]) -> None:
    learner, replica = train(batches[:6]), RecommenderModel()
    replica.restore(copied(learner.state()))
    for batch in batches[6:14]:
        learner.set_item_attributes(
            ITEMS[:5], np.full((5, 4), 3, np.uint64), np.full(5, NO_TIME), np.full(5, 2.0, np.float32)
        )
        learner.learn(batch)
        replica.apply(learner.changes())
        query = make_query([0, 8, 16])

        assert np.array_equal(retrieve(replica, query, 20).row, retrieve(learner, query, 20).row)
        assert score(replica, query, [0, 1, 2, 40]) == score(learner, query, [0, 1, 2, 40])


def test_changes_of_a_step_are_smaller_than_the_state(batches: list[ExampleBatch]) -> None:
    model = train(batches[:10])
    model.learn(batches[10])
    changed = sum(array.nbytes for array in model.changes().values())

    assert changed < sum(array.nbytes for array in model.state().values()) / 20


def test_best_candidates_are_items_of_similar_users(batches: list[ExampleBatch]) -> None:
    model = train(batches)
    found = retrieve(model, make_query([0, 8]), 10)
    scores = model.score(
        model.extract_candidate_features(model.items.resolve_queries(make_query([0, 8])), found.start, found.row)
    )
    best = model.items.keys[found.row[np.argsort(-scores)[:5]]]

    assert {find_group(key) for key in best} == {0}


def test_the_clicked_item_of_a_slate_ranks_first(batches: list[ExampleBatch]) -> None:
    model = train(batches[:-1])
    report = model.learn(batches[-1]).report

    assert report.slate_ranker.lists == 16
    assert report.slate_ranker.auc > 0.9
    assert report.candidate_ranker.auc > 0.7


def test_click_probabilities_approach_the_click_rate(batches: list[ExampleBatch]) -> None:
    model, batch = train(generate_batches(60)[:-1]), generate_batches(60)[-1]
    rows = np.flatnonzero(batch.kind == Kind.shown)
    probability = model.predict_click_probability(
        model.extract_features(batch.queries.take(rows), batch.lists.take(rows))
    )

    assert abs(probability.mean() - 1 / 6) < 0.05


def test_only_eligible_items_are_retrieved(batches: list[ExampleBatch]) -> None:
    model = train(batches)
    eligible = np.zeros(len(model.items), np.uint8)
    eligible[model.items.lookup(ITEMS[[16, 24]])] = 1
    found = retrieve(model, make_query([0, 8]), 30, eligible)

    assert set(found.row.tolist()) <= set(np.flatnonzero(eligible).tolist())


def test_an_exclusion_hides_items_from_its_query_only(batches: list[ExampleBatch]) -> None:
    model = train(batches)
    users = model.items.resolve_queries(make_queries(2, [[0, 8], [0, 8]], np.full(2, START + 10_000_000)))
    alone = retrieve(model, make_query([0, 8]), 30)
    hidden = alone.row[::2].copy()  # contiguous as in serving: other layouts compile the kernels again
    found = model.retrieve(users, 30, exclusions=Exclusions(np.array([0, hidden.size, hidden.size]), hidden))

    assert not np.isin(found.row[: found.start[1]], hidden).any()
    assert found.start[1] > 20
    assert found.row[found.start[1] :].tolist() == alone.row.tolist()
    assert found.channels[found.start[1] :].tolist() == alone.channels.tolist()


def test_cold_start_items_are_retrieved_unless_excluded(batches: list[ExampleBatch]) -> None:
    model = train(batches)
    users = model.items.resolve_queries(make_queries(2, [[0], [8]], np.full(2, START + 10_000_000)))
    cold_start, eligible = np.array([70, 71, 72], np.int32), np.ones(1024, np.uint8)
    eligible[72] = 0
    hidden = Exclusions(np.array([0, 0, 1]), np.array([71], np.int32))
    found = model.retrieve(users, 5, eligible, hidden, cold_start)
    is_fresh = (found.channels >> Channel.fresh & 1).astype(bool)

    assert found.row[: found.start[1]][is_fresh[: found.start[1]]].tolist() == [70, 71]
    assert found.row[found.start[1] :][is_fresh[found.start[1] :]].tolist() == [70]


def test_each_candidate_appears_once_with_its_channels(batches: list[ExampleBatch]) -> None:
    model = train(batches)
    found = retrieve(model, make_query([0, 8]), 30)

    assert np.unique(found.row).size == found.row.size
    assert (found.channels > 0).all()
    assert (found.channels > 0).all()
    assert found.channels.max() < 1 << len(Channel)
    assert found.channels[found.row == model.items.lookup(ITEMS[[8]])[0]] & (1 << Channel.history)


def test_a_catalog_item_without_events_is_retrieved_as_new() -> None:
    model = RecommenderModel()
    rows = model.set_item_attributes(
        ITEMS[:2], np.zeros((2, 4), np.uint64), np.array([START, NO_TIME]), np.full(2, np.nan)
    )
    found = retrieve(model, make_query([]), 10)

    assert found.row.tolist() == [rows[0]]
    assert found.channels.tolist() == [1 << Channel.newest]


def test_served_features_are_trained_on(batches: list[ExampleBatch]) -> None:
    batch = batches[6]
    rows = np.flatnonzero(batch.kind == Kind.clicked)
    reference, model = train(batches[:6]), train(batches[:6])
    width = len(model.feature_names)
    served = np.full(len(batch), -1, np.int32)
    served[rows] = np.arange(rows.size) * 6
    noise = np.random.default_rng(0).normal(size=(rows.size * 6, width)).astype(np.float32)
    reference.learn(batch)
    model.learn(replace(batch, features=noise, feature_row=served))

    assert reference.slate_ranker.state()["theta"].tobytes() != model.slate_ranker.state()["theta"].tobytes()


def test_weights_of_other_features_are_rejected(batches: list[ExampleBatch]) -> None:
    state = copied(train(batches[:1]).state())
    state["candidate_ranker.theta"] = state["candidate_ranker.theta"][:-3]
    with pytest.raises(ValueError, match="features or settings differ"):
        RecommenderModel().restore(state)


def test_features_of_another_width_are_rejected(batches: list[ExampleBatch]) -> None:
    with pytest.raises(ValueError, match="columns"):
        train(batches[:1]).score(np.zeros((2, 3), np.float32))


def hostile(batch: ExampleBatch, rng: np.random.Generator) -> ExampleBatch:
    """Put extreme numbers into a batch."""
    wild = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 0.0], np.float32)
    shown = batch.lists
    return replace(
        batch,
        value=rng.choice(wild, len(batch)),
        lists=replace(
            shown,
            price=rng.choice(wild, shown.item.size),
            propensity=rng.choice(wild, shown.item.size),
            position=rng.choice(np.array([-1, 0, 32_767], np.int16), shown.item.size),
            label=rng.choice(np.array([0, 1, 1e30, np.nan, -1], np.float32), shown.item.size),
        ),
        queries=replace(
            batch.queries,
            rates=rng.choice(wild, batch.queries.rates.shape),
            session_depth=rng.choice(np.array([-5, 0, 2**31 - 1], np.int32), len(batch)),
            session_start=rng.choice(np.array([0, START, 2**60], np.int64), len(batch)),
            history_ts=rng.choice(np.array([0, START, 2**60], np.int64), batch.queries.history_ts.size),
        ),
    )


def test_scores_stay_finite_on_hostile_input(batches: list[ExampleBatch]) -> None:
    rng, model = np.random.default_rng(3), train(batches[:4])
    for batch in batches[4:8]:
        bad = hostile(batch, rng)
        model.learn(bad)
        x = model.extract_features(bad.queries, bad.lists)

        assert np.isfinite(x).all()
        assert all(
            np.isfinite(scores).all()
            for scores in (model.score(x), model.score_slate(x), model.predict_click_probability(x))
        )
    trained = {name: array for name, array in model.state().items() if not name.startswith("items.catalog")}

    assert all(np.isfinite(array).all() for name, array in trained.items() if array.dtype == np.float32)


def test_extreme_served_features_leave_parameters_finite(batches: list[ExampleBatch]) -> None:
    model, batch = train(batches[:4]), batches[4]
    lengths = np.diff(batch.lists.start)
    wild = np.full((int(lengths.sum()), len(model.feature_names)), np.nan, np.float32)
    wild[::2] = 3e38
    model.learn(replace(batch, features=wild, feature_row=batch.lists.start[:-1].astype(np.int32)))

    assert np.isfinite(model.slate_ranker.state()["theta"]).all()
    assert np.isfinite(model.click_head.state()["weight"]).all()


@pytest.mark.parametrize("items", [[], [3], [3, 3, 3]], ids=["empty", "one item", "one item thrice"])
def test_degenerate_lists_are_trained_on_and_scored(items: list[int], batches: list[ExampleBatch]) -> None:
    model, queries = train(batches[:3]), make_queries(4, [[], [1], [], [2, 2]], np.full(4, START + 9_000_000))
    kinds = [Kind.shown, Kind.clicked, Kind.closed, Kind.shown]
    odd = make_batch(kinds, queries, make_lists([items] * 4, [[1.0] * len(items)] * 4), np.full(4, 77, np.uint64))
    model.learn(odd)

    assert model.score(model.extract_features(queries, odd.lists)).size == 4 * len(items)


def test_unknown_items_and_users_are_scored(batches: list[ExampleBatch]) -> None:
    model = train(batches[:4])
    unknown = replace(make_lists([[0, 1]]), item=np.array([1, 2], np.uint64))
    stranger = replace(make_query([0]), history_item=np.array([5], np.uint64))

    assert np.isfinite(model.score(model.extract_features(stranger, unknown))).all()
    assert retrieve(model, stranger, 5).row.size > 0


def test_an_empty_model_retrieves_nothing() -> None:
    found = retrieve(RecommenderModel(), make_query([1]), 5)

    assert found.row.size == 0


def test_a_step_reports_predictions_from_before_training(batches: list[ExampleBatch]) -> None:
    model, batch = train(batches[:6]), batches[6]
    clicks, head = model.predict_clicks(batch), model.copy_click_predictor()
    result = model.learn(batch)

    assert result.batch is batch
    assert result.clicks.rank.tolist() == clicks.rank.tolist()
    assert result.closed.lists.rows.tolist() == np.flatnonzero(batch.kind == Kind.closed).tolist()
    assert result.closed.features.shape == (result.closed.label.size, len(result.closed.feature_names))
    assert result.report.click_head_updates == result.closed.label.size
    closed = result.closed
    assert closed.position_offset.shape == closed.label.shape
    before = head(closed.features, closed.position_offset)
    assert not np.array_equal(before, model.predict_click_probability(closed.features, closed.position_offset))


def test_an_empty_batch_changes_nothing(batches: list[ExampleBatch]) -> None:
    model = train(batches[:2])
    before = copied(model.state())
    result = model.learn(batches[2].take(np.zeros(0, np.int64)))

    assert (len(result.clicks), len(result.gain), result.report.updates) == (0, 0, 0)
    assert same_bits(before, model.state())


def test_similar_items_are_of_the_same_group(batches: list[ExampleBatch]) -> None:
    model = train(batches)
    found = model.find_similar(int(model.items.lookup(ITEMS[[8]])[0]), 5)
    groups = [find_group(key) for key in model.items.keys[found.row]]

    assert groups.count(0) > len(groups) / 2


def test_a_seed_draws_the_initial_weights() -> None:
    batches = generate_batches(2)
    states = {seed: train(batches, settings_with_seed(seed)).state() for seed in (0, 1, 2)}
    random_arrays = (
        "two_tower.item_vectors.vector",
        "two_tower.history_vectors.vector",
        "candidate_ranker.theta",
        "slate_ranker.theta",
    )

    assert settings_with_seed(0) == ModelSettings()
    assert all(not np.array_equal(states[1][name], states[seed][name]) for name in random_arrays for seed in (0, 2))


def test_lists_with_unknown_features_do_not_train(batches: list[ExampleBatch]) -> None:
    model, batch = train(batches[:4]), batches[4]
    closed = batch.take(np.flatnonzero(batch.kind == Kind.closed))
    unknown = replace(closed, impression=closed.impression + np.uint64(1 << 60))
    before = copied(model.click_head.state())
    result = model.learn(unknown)

    assert result.report.forgotten_lists == len(unknown) > 0
    assert result.closed.label.size == 0
    assert all(np.array_equal(before[name], array) for name, array in model.click_head.state().items())
