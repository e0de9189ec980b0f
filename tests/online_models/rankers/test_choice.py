"""The setting `learn.ranker` chooses the ranker of the learner and of its replicas."""

import logging
from pathlib import Path

import numpy as np
import pytest

from online_models.control import CheckpointCommand
from online_models.model import RecommenderModel, settings_with_seed
from online_models.plugins import BUILT_IN
from online_models.state.tables import State
from serving.replica.replica import Replica
from stream.config import Settings
from stream.records.batches import ExampleBatch
from tests.support.batches import generate_batches
from tests.support.learner_lab import Lab, make_blocks, read_bits

RANKER_PARTS = ("candidate_ranker.", "slate_ranker.", "click_head.")


@pytest.fixture(scope="module")
def batches() -> list[ExampleBatch]:
    return generate_batches(24)


def train(name: str, batches: list[ExampleBatch]) -> RecommenderModel:
    model = RecommenderModel(settings_with_seed(0, name))
    for batch in batches:
        model.learn(batch)
    return model


def ranker_state(state: State) -> State:
    return {name: array.copy() for name, array in state.items() if name.startswith(RANKER_PARTS)}


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_ranker_orders_slates_and_predicts_clicks(name: str, batches: list[ExampleBatch]) -> None:
    model = train(name, batches[:20])
    results = [model.learn(batch) for batch in batches[20:]]
    probability = np.concatenate([result.closed.probability for result in results])

    assert min(result.report.slate_ranker.auc for result in results) > 0.8
    assert all(result.report.candidate_ranker.updates for result in results)
    assert probability.mean() == pytest.approx(1 / 6, abs=0.08)
    assert np.log(probability).std() > 0.1


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_ranker_is_followed_by_replicas(name: str, tmp_path: Path) -> None:
    lab = Lab(tmp_path, make_blocks(), {(1, 2): CheckpointCommand()}, ranker=name).finish()
    replica, learner = Replica(lab.log, lab.settings), lab.start()
    while replica.poll():
        pass
    x = np.random.default_rng(0).normal(size=(50, len(learner.model.feature_names))).astype(np.float32)

    assert replica.version == learner.version
    assert learner.model.score(x).any()
    for followed, own in zip(
        replica.model.score_candidates(x, np.array([0, 20, 50]), 0.5),
        learner.model.score_candidates(x, np.array([0, 20, 50]), 0.5),
        strict=True,
    ):
        assert followed.tobytes() == own.tobytes()


def test_journal_repeats_the_bits_of_a_chosen_ranker(tmp_path: Path) -> None:
    lab = Lab(tmp_path, make_blocks(), {(1, 2): CheckpointCommand()}, ranker="deepfm").finish()
    before = lab.bits
    lab.die()

    assert lab.bits == before


def test_another_ranker_starts_untrained_with_a_warning(
    batches: list[ExampleBatch], caplog: pytest.LogCaptureFixture
) -> None:
    written = train("listnet", batches[:6])
    model = RecommenderModel(settings_with_seed(0, "ftrl"))
    untrained = ranker_state(model.state())
    model.restore(written.state())
    kept = {name: array for name, array in model.state().items() if name not in untrained and name != "ranker.name"}

    assert read_bits(ranker_state(model.state())) == read_bits(untrained)
    assert read_bits(kept) == read_bits({name: written.state()[name] for name in kept})
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "state of ranker 'listnet' is not used: learn.ranker is 'ftrl'" in caplog.text


def test_changes_of_another_ranker_are_left_out_with_one_warning(
    batches: list[ExampleBatch], caplog: pytest.LogCaptureFixture
) -> None:
    learner, replica = train("fm", []), RecommenderModel()
    untrained = ranker_state(replica.state())
    for batch in batches[:3]:
        learner.learn(batch)
        replica.apply(learner.changes())

    assert read_bits(ranker_state(replica.state())) == read_bits(untrained)
    assert replica.items.keys.tolist() == learner.items.keys.tolist()
    assert len(caplog.records) == 1


def test_learner_goes_on_after_a_change_of_ranker(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocks = make_blocks()
    lab = Lab(tmp_path, {p: records[:3] for p, records in blocks.items()}).finish()
    lab.start().save()
    lab.die()
    lab.settings = Settings.model_validate(
        lab.settings.model_dump() | {"learn": lab.settings.learn.model_dump() | {"ranker": "ftrl"}}
    )
    for partition, records in blocks.items():
        lab.log.write("examples", partition, *records[3:])
    lab.finish()

    assert "learn.ranker is 'ftrl', which starts untrained" in caplog.text
    assert lab.start().model.state()["slate_ranker.model.dense"].any()


def test_trained_parts_are_parts_of_the_state(batches: list[ExampleBatch]) -> None:
    model = train("listnet", batches[:1])

    assert set(model.trained_parts) <= {name.partition(".")[0] for name in model.state()}
