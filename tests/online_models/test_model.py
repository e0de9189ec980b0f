"""What the composed learner promises to the process, the replica and the evaluation."""

from dataclasses import replace

import numpy as np
import pytest

from online_models.model import ModelSettings, RecommenderModel, settings_with_seed
from online_models.retrievers.candidates import Candidates, Channel
from online_models.retrievers.top_k import Exclusions
from online_models.state.item_table import NO_TIME
from online_models.state.tables import State, substate
from stream.records.batches import ExampleBatch, Kind, Queries
from tests.support.batches import ITEMS, START, batch_of, group_of, lists, questions, shopping


def copied(state: State) -> State:
    return {name: array.copy() for name, array in state.items()}


def same_bits(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(a[name].tobytes() == b[name].tobytes() for name in a)


def taught(batches: list[ExampleBatch], settings: ModelSettings | None = None) -> RecommenderModel:
    stack = RecommenderModel(settings)
    for batch in batches:
        stack.learn(batch)
        stack.changes()
    return stack


def someone(history: list[int]) -> Queries:
    return questions(1, [history], np.array([START + 10_000_000]))


def found_by(stack: RecommenderModel, asked: Queries, k: int, eligible: np.ndarray | None = None) -> Candidates:
    return stack.retrieve(stack.items.resolve_queries(asked), k, eligible)


def scores_of(stack: RecommenderModel, asked: Queries, chosen: list[int]) -> tuple[bytes, bytes, bytes]:
    x = stack.extract_features(asked, lists([chosen]))
    return stack.score(x).tobytes(), stack.score_slate(x).tobytes(), stack.predict_click_probability(x).tobytes()


@pytest.fixture(scope="module")
def batches() -> list[ExampleBatch]:
    return shopping(24)


def test_learning_leaves_the_batch_alone(batches: list[ExampleBatch]) -> None:
    batch = shopping(3, seed=5)[-1]
    before = copied(batch.queries.arrays()) | copied(batch.lists.arrays())
    taught([*batches[:2], batch])

    assert same_bits(before, batch.queries.arrays() | batch.lists.arrays())


def test_asking_leaves_the_state_alone(batches: list[ExampleBatch]) -> None:
    stack = taught(batches[:6])
    before = copied(stack.state())
    found = found_by(stack, someone([0, 8]), 30)
    scores_of(stack, someone([0, 8]), [1, 2, 3])
    stack.find_similar(int(found.row[0]), 5)

    assert same_bits(before, stack.state())
    assert not any(
        stack.changes()[f"{part}.rows"].size
        for part in ("covisitation", "two_two_tower.item_vectors", "items.counters")
    )


def test_the_same_start_gives_the_same_run(batches: list[ExampleBatch]) -> None:
    assert same_bits(taught(batches[:8]).state(), taught(batches[:8]).state())


def test_a_restored_stack_goes_on_with_the_same_bits(batches: list[ExampleBatch]) -> None:
    stack, restored = taught(batches[:8]), RecommenderModel()
    restored.restore(copied(stack.state()))
    for batch in batches[8:12]:
        stack.learn(batch)
        restored.learn(batch)

    assert same_bits(stack.state(), restored.state())


def test_a_state_from_before_a_part_was_added_is_taken_up_without_it(batches: list[ExampleBatch]) -> None:
    stack, restored = taught(batches[:8]), RecommenderModel()
    old = {name: array for name, array in copied(stack.state()).items() if not name.startswith("bandit.")}
    restored.restore(old)
    stack.learn(batches[8])
    changes = stack.changes()
    restored.apply({name: array for name, array in changes.items() if not name.startswith("bandit.")})

    assert same_bits(substate(restored.state(), "bandit"), substate(RecommenderModel().state(), "bandit"))
    assert scores_of(restored, someone([0, 8]), [0, 1]) == scores_of(stack, someone([0, 8]), [0, 1])


def test_what_became_of_slates_is_learnt_by_the_bandit(batches: list[ExampleBatch]) -> None:
    stack, half = RecommenderModel(), ITEMS.size // 2
    categories = np.zeros((ITEMS.size, 4), np.uint64)
    categories[:, 0] = np.where(np.arange(ITEMS.size) < half, 7, 9)
    stack.set_item_attributes(ITEMS, categories, np.full(ITEMS.size, NO_TIME), np.full(ITEMS.size, np.nan, np.float32))
    for batch in batches[:4]:
        stack.learn(batch)
    learnt = substate(stack.state(), "bandit")

    assert set(learnt["keys"].tolist()) == {1, 2, 7, 9}
    assert (learnt["posterior"][2:, 1] != 0).all()


def test_a_replica_that_follows_the_changes_answers_with_the_same_bits(batches: list[ExampleBatch]) -> None:
    learner, replica = taught(batches[:6]), RecommenderModel()
    replica.restore(copied(learner.state()))
    for batch in batches[6:14]:
        learner.set_item_attributes(
            ITEMS[:5], np.full((5, 4), 3, np.uint64), np.full(5, NO_TIME), np.full(5, 2.0, np.float32)
        )
        learner.learn(batch)
        replica.apply(learner.changes())
        asked = someone([0, 8, 16])
        there, here = found_by(replica, asked, 20), found_by(learner, asked, 20)

        assert np.array_equal(there.row, here.row)
        assert scores_of(replica, asked, [0, 1, 2, 40]) == scores_of(learner, asked, [0, 1, 2, 40])


def test_changes_of_a_step_are_smaller_than_the_state(batches: list[ExampleBatch]) -> None:
    stack = taught(batches[:10])
    stack.learn(batches[10])
    changed = sum(array.nbytes for array in stack.changes().values())

    assert changed < sum(array.nbytes for array in stack.state().values()) / 20


def test_candidates_are_what_people_alike_took(batches: list[ExampleBatch]) -> None:
    stack = taught(batches)
    found = found_by(stack, someone([0, 8]), 10)
    score = stack.score(
        stack.extract_candidate_features(stack.items.resolve_queries(someone([0, 8])), found.start, found.row)
    )
    best = stack.items.keys[found.row[np.argsort(-score)[:5]]]

    assert {group_of(key) for key in best} == {0}


def test_the_taken_item_of_a_slate_is_ordered_first(batches: list[ExampleBatch]) -> None:
    stack = taught(batches[:-1])
    stack.learn(batches[-1])

    assert stack.report.slate_ranker.lists == 16
    assert stack.report.slate_ranker.auc > 0.9
    assert stack.report.candidate_ranker.auc > 0.7


def test_probabilities_approach_the_rate_of_clicks(batches: list[ExampleBatch]) -> None:
    stack, batch = taught(shopping(60)[:-1]), shopping(60)[-1]
    chosen = np.flatnonzero(batch.kind == Kind.shown)
    chance = stack.predict_click_probability(
        stack.extract_features(batch.queries.take(chosen), batch.lists.take(chosen))
    )

    assert abs(chance.mean() - 1 / 6) < 0.05


def test_only_eligible_items_are_found(batches: list[ExampleBatch]) -> None:
    stack = taught(batches)
    eligible = np.zeros(len(stack.items), np.uint8)
    eligible[stack.items.lookup(ITEMS[[16, 24]])] = 1
    found = found_by(stack, someone([0, 8]), 30, eligible)

    assert set(found.row.tolist()) <= set(np.flatnonzero(eligible).tolist())


def test_what_is_hidden_is_found_by_no_channel_and_by_nobody_else_is_missed(batches: list[ExampleBatch]) -> None:
    stack = taught(batches)
    people = stack.items.resolve_queries(questions(2, [[0, 8], [0, 8]], np.full(2, START + 10_000_000)))
    alone = found_by(stack, someone([0, 8]), 30)
    hidden = alone.row[::2].copy()  # as answers have it: kernels are compiled again for rows that do not lie together
    found = stack.retrieve(people, 30, exclusions=Exclusions(np.array([0, hidden.size, hidden.size]), hidden))

    assert not np.isin(found.row[: found.start[1]], hidden).any()
    assert found.start[1] > 20
    assert found.row[found.start[1] :].tolist() == alone.row.tolist()
    assert found.channels[found.start[1] :].tolist() == alone.channels.tolist()


def test_fresh_items_are_found_for_everybody_who_may_see_them(batches: list[ExampleBatch]) -> None:
    stack = taught(batches)
    people = stack.items.resolve_queries(questions(2, [[0], [8]], np.full(2, START + 10_000_000)))
    fresh, eligible = np.array([70, 71, 72], np.int32), np.ones(1024, np.uint8)
    eligible[72] = 0
    hidden = Exclusions(np.array([0, 0, 1]), np.array([71], np.int32))
    found = stack.retrieve(people, 5, eligible, hidden, fresh)
    told = (found.channels >> Channel.fresh & 1).astype(bool)

    assert found.row[: found.start[1]][told[: found.start[1]]].tolist() == [70, 71]
    assert found.row[found.start[1] :][told[found.start[1] :]].tolist() == [70]


def test_each_candidate_names_its_channels_and_stands_once(batches: list[ExampleBatch]) -> None:
    stack = taught(batches)
    found = found_by(stack, someone([0, 8]), 30)

    assert np.unique(found.row).size == found.row.size
    assert (found.channels > 0).all()
    assert set(found.first_channels().tolist()) <= {int(channel) for channel in Channel}
    assert found.first_channels()[found.row == stack.items.lookup(ITEMS[[8]])[0]] == [Channel.history]


def test_a_described_item_is_found_as_new_before_anybody_met_it() -> None:
    stack = RecommenderModel()
    rows = stack.set_item_attributes(
        ITEMS[:2], np.zeros((2, 4), np.uint64), np.array([START, NO_TIME]), np.full(2, np.nan)
    )
    found = found_by(stack, someone([]), 10)

    assert found.row.tolist() == [rows[0]]
    assert found.first_channels().tolist() == [Channel.newest]


def test_features_as_served_are_what_is_learnt(batches: list[ExampleBatch]) -> None:
    batch = batches[6]
    chosen = np.flatnonzero(batch.kind == Kind.clicked)
    reference, told = taught(batches[:6]), taught(batches[:6])
    width = len(told.feature_names)
    served = np.full(len(batch), -1, np.int32)
    served[chosen] = np.arange(chosen.size) * 6
    flipped = np.random.default_rng(0).normal(size=(chosen.size * 6, width)).astype(np.float32)
    reference.learn(batch)
    told.learn(replace(batch, features=flipped, feature_row=served))

    assert reference.slate_ranker.state()["theta"].tobytes() != told.slate_ranker.state()["theta"].tobytes()


def test_a_network_of_other_features_is_refused(batches: list[ExampleBatch]) -> None:
    state = copied(taught(batches[:1]).state())
    state["candidate_ranker.theta"] = state["candidate_ranker.theta"][:-3]
    with pytest.raises(ValueError, match="features or settings differ"):
        RecommenderModel().restore(state)


def test_features_of_another_width_are_refused(batches: list[ExampleBatch]) -> None:
    with pytest.raises(ValueError, match="columns"):
        taught(batches[:1]).score(np.zeros((2, 3), np.float32))


def hostile(batch: ExampleBatch, rng: np.random.Generator) -> ExampleBatch:
    """The batch with numbers that no honest stream has."""
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
    rng, stack = np.random.default_rng(3), taught(batches[:4])
    for batch in batches[4:8]:
        bad = hostile(batch, rng)
        stack.learn(bad)
        x = stack.extract_features(bad.queries, bad.lists)

        assert np.isfinite(x).all()
        assert all(
            np.isfinite(scores).all()
            for scores in (stack.score(x), stack.score_slate(x), stack.predict_click_probability(x))
        )
    learnt = {name: array for name, array in stack.state().items() if not name.startswith("items.catalog")}

    assert all(np.isfinite(array).all() for name, array in learnt.items() if array.dtype == np.float32)


def test_wild_served_features_do_not_reach_a_parameter(batches: list[ExampleBatch]) -> None:
    stack, batch = taught(batches[:4]), batches[4]
    lengths = np.diff(batch.lists.start)
    wild = np.full((int(lengths.sum()), len(stack.feature_names)), np.nan, np.float32)
    wild[::2] = 3e38
    stack.learn(replace(batch, features=wild, feature_row=batch.lists.start[:-1].astype(np.int32)))

    assert np.isfinite(stack.slate_ranker.state()["theta"]).all()
    assert np.isfinite(stack.click_head.state()["weight"]).all()


@pytest.mark.parametrize("items", [[], [3], [3, 3, 3]], ids=["empty", "one item", "one item thrice"])
def test_odd_lists_are_learnt_and_scored(items: list[int], batches: list[ExampleBatch]) -> None:
    stack, asked = taught(batches[:3]), questions(4, [[], [1], [], [2, 2]], np.full(4, START + 9_000_000))
    kinds = [Kind.shown, Kind.clicked, Kind.closed, Kind.shown]
    odd = batch_of(kinds, asked, lists([items] * 4, [[1.0] * len(items)] * 4), np.full(4, 77, np.uint64))
    stack.learn(odd)

    assert stack.score(stack.extract_features(asked, odd.lists)).size == 4 * len(items)


def test_unknown_items_and_people_are_scored(batches: list[ExampleBatch]) -> None:
    stack = taught(batches[:4])
    unknown = replace(lists([[0, 1]]), item=np.array([1, 2], np.uint64))
    stranger = replace(someone([0]), history_item=np.array([5], np.uint64))

    assert np.isfinite(stack.score(stack.extract_features(stranger, unknown))).all()
    assert found_by(stack, stranger, 5).row.size > 0


def test_an_empty_stack_answers_with_nothing() -> None:
    found = found_by(RecommenderModel(), someone([1]), 5)

    assert found.row.size == 0


def test_an_empty_batch_teaches_nothing(batches: list[ExampleBatch]) -> None:
    stack = taught(batches[:2])
    before = copied(stack.state())
    stack.learn(batches[2].take(np.zeros(0, np.int64)))

    assert same_bits(before, stack.state())


def test_similar_items_are_of_the_same_group(batches: list[ExampleBatch]) -> None:
    stack = taught(batches)
    found = stack.find_similar(int(stack.items.lookup(ITEMS[[8]])[0]), 5)
    groups = [group_of(key) for key in stack.items.keys[found.row]]

    assert groups.count(0) > len(groups) / 2


def test_a_seed_decides_what_is_left_to_chance() -> None:
    batches = shopping(2)
    told = {seed: taught(batches, settings_with_seed(seed)).state() for seed in (0, 1, 2)}
    by_chance = (
        "two_two_tower.item_vectors.vector",
        "two_two_tower.history_vectors.vector",
        "candidate_ranker.theta",
        "slate_ranker.theta",
    )

    assert settings_with_seed(0) == ModelSettings()
    assert all(not np.array_equal(told[1][name], told[seed][name]) for name in by_chance for seed in (0, 2))
