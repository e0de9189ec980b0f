"""A version that does not pass is neither served nor gone back to, until a person says otherwise."""

from pathlib import Path

import numpy as np
import pytest

from online_models.control import CheckpointCommand, RollbackCommand, encode_command
from online_models.guard.reference_model import ReferenceModel
from online_models.model import RecommenderModel
from online_models.progressive_predictions import ClosedImpressions
from online_models.rankers.click_head import ClickHead
from online_models.versions import gate
from online_models.versions.checkpoint_writer import CheckpointWriter
from online_models.versions.checkpoints import save
from online_models.versions.listing import describe_versions
from stream.topics import CONTROL
from tests.online_models.versions.test_checkpoints import STATE, manifest
from tests.support.learner_lab import Lab, lessons

OLD, NEW = "000001-000000001", "000001-000000002"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (1, 2):
        save(tmp_path, manifest(step), STATE)
    return tmp_path


def newest(folder: Path) -> str | None:
    loaded = gate.load_newest(folder)
    return loaded[0].version if loaded else None


def test_the_newest_version_that_is_not_refused_is_served(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest(folder) == gate.find_newest_servable(folder) == NEW

    gate.override(folder, NEW, "taught by a flood")

    assert newest(folder) == gate.find_newest_servable(folder) == OLD
    assert "version 000001-000000002 is refused: taught by a flood" in caplog.text
    assert [one["blocked_reason"] for one in describe_versions(folder, "")] == ["", "taught by a flood"]
    with pytest.raises(gate.VersionBlocked, match=f"headrace models approve {NEW}"):
        gate.check_servable(folder, NEW)

    gate.override(folder, OLD, "so is this")

    assert newest(folder) is gate.find_newest_servable(folder) is None


def test_a_mark_counts_for_more_than_what_was_written(tmp_path: Path) -> None:
    doubtful = manifest(1)
    doubtful.blocked_reason = "alarm x is open"
    save(tmp_path, doubtful, STATE)

    assert gate.list_blocked(tmp_path) == {OLD: "alarm x is open"}

    gate.override(tmp_path, OLD, "")

    assert gate.list_blocked(tmp_path) == {}
    gate.check_servable(tmp_path, OLD)


def test_a_state_with_what_is_no_number_is_written_and_refused(tmp_path: Path) -> None:
    keeper = CheckpointWriter(tmp_path, n_kept=2)
    sound = {"popular.day.value": np.array([-np.inf]), "two_two_tower.x": np.zeros(3)}
    keeper.save(manifest(1), sound)
    for step, wrong in enumerate((np.nan, np.inf, np.nan), start=2):
        keeper.save(manifest(step), sound | {"two_two_tower.x": np.array([0.0, wrong])})
    keeper.wait()

    assert gate.list_blocked(tmp_path) == {f"000001-00000000{step}": "not finite: two_tower.x" for step in (3, 4)}
    # However old, the newest that may be served is kept.
    assert newest(tmp_path) == OLD


def test_marks_of_versions_that_are_gone_go_too(folder: Path) -> None:
    gate.override(folder, "000001-000000000", "gone")
    gate.override(folder, NEW, "bad")

    assert [path.stem for path in (folder / "gate").iterdir()] == [NEW]


def test_a_learner_does_not_go_back_to_a_refused_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(tmp_path, {0: lessons()[0][:6]}, {(1, 3): CheckpointCommand()}).finish()
    version = "000001-000000003"
    gate.override(lab.settings.checkpoints, version, "bad")
    for refused, epoch in (("bad", 1), ("", 2)):
        gate.override(lab.settings.checkpoints, version, refused)
        lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand(version))))
        lab.finish()

        assert lab.start().progress.epoch == epoch
    assert f"version {version} is refused: bad" in caplog.text


class Places:
    """Places with what they show and what became of them, a step at a time, as a stack would close them."""

    def __init__(self) -> None:
        self.stack, self.rng = RecommenderModel(), np.random.default_rng(0)
        self.slope = self.rng.normal(0, 1, len(self.stack.feature_names)).astype(np.float32)

    def close(self, n: int, broken: bool) -> RecommenderModel:
        x = self.rng.normal(0, 1, (n, self.slope.size)).astype(np.float32)
        label = (self.rng.random(n) < 1 / (1 + np.exp(3 - x @ self.slope))).astype(np.float32)
        inside = self.stack.slate_ranker.hidden(x)
        p = self.stack.click_head.predict(inside)
        self.stack.closed_impressions = ClosedImpressions(1 - p if broken else p, label, x)
        self.stack.click_head.learn(inside, label)
        return self.stack


def test_a_learner_that_has_become_worse_than_it_was_does_not_pass_and_one_that_learns_does() -> None:
    places, rival = Places(), ReferenceModel()
    for step in range(60):
        rival.update(places.close(200, broken=False), f"v{step}")

        assert rival.degradation_reason() == ""
    for _ in range(16):
        rival.update(places.close(200, broken=True), "broken")

    assert rival.degradation_reason().startswith("log loss of")
    assert "where v" in rival.degradation_reason()

    rival.reset()

    assert rival.degradation_reason() == ""


def test_what_the_world_does_speaks_against_no_version() -> None:
    places, rival = Places(), ReferenceModel()
    for step in range(60):
        if step == 30:
            places.slope = -places.slope
        rival.update(places.close(200, broken=False), f"v{step}")

        assert rival.degradation_reason() == ""
    assert isinstance(places.stack.click_head, ClickHead)
