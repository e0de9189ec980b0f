"""A blocked version is neither served nor a rollback target, until an operator approves it."""

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
from stream.records.batches import ListView
from stream.topics import CONTROL
from tests.online_models.versions.test_checkpoints import STATE, manifest
from tests.support.learner_lab import Lab, make_blocks

OLD, NEW = "000001-000000001", "000001-000000002"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (1, 2):
        save(tmp_path, manifest(step), STATE)
    return tmp_path


def newest(folder: Path) -> str | None:
    loaded = gate.load_newest(folder)
    return loaded[0].version if loaded else None


def test_newest_version_that_is_not_blocked_is_served(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert newest(folder) == gate.find_newest_servable(folder) == NEW

    gate.override(folder, NEW, "trained on a flood")

    assert newest(folder) == gate.find_newest_servable(folder) == OLD
    assert "version 000001-000000002 is blocked: trained on a flood" in caplog.text
    assert [info["blocked_reason"] for info in describe_versions(folder, "")] == ["", "trained on a flood"]
    with pytest.raises(gate.VersionBlocked, match=f"headrace models approve {NEW}"):
        gate.check_servable(folder, NEW)

    gate.override(folder, OLD, "trained on it too")

    assert newest(folder) is gate.find_newest_servable(folder) is None


def test_override_reitems_the_reason_in_the_manifest(tmp_path: Path) -> None:
    blocked = manifest(1)
    blocked.blocked_reason = "alarm x is open"
    save(tmp_path, blocked, STATE)

    assert gate.list_blocked(tmp_path) == {OLD: "alarm x is open"}

    gate.override(tmp_path, OLD, "")

    assert gate.list_blocked(tmp_path) == {}
    gate.check_servable(tmp_path, OLD)


def test_state_that_is_not_finite_is_written_and_blocked(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, n_kept=2, trained_parts=("two_tower",))
    valid = {"popular.day.value": np.array([-np.inf]), "two_tower.x": np.zeros(3)}
    writer.save(manifest(1), valid)
    for step, value in enumerate((np.nan, np.inf, np.nan), start=2):
        writer.save(manifest(step), valid | {"two_tower.x": np.array([0.0, value])})
    writer.wait()

    assert gate.list_blocked(tmp_path) == {f"000001-00000000{step}": "not finite: two_tower.x" for step in (3, 4)}
    # The newest servable version is kept, however old it is.
    assert newest(tmp_path) == OLD


def test_overrides_of_deleted_versions_are_deleted(folder: Path) -> None:
    gate.override(folder, "000001-000000000", "gone")
    gate.override(folder, NEW, "bad")

    assert [path.stem for path in (folder / "gate").iterdir()] == [NEW]


def test_learner_does_not_roll_back_to_a_blocked_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lab = Lab(tmp_path, {0: make_blocks()[0][:6]}, {(1, 3): CheckpointCommand()}).finish()
    version = "000001-000000003"
    gate.override(lab.settings.checkpoints, version, "bad")
    for reason, epoch in (("bad", 1), ("", 2)):
        gate.override(lab.settings.checkpoints, version, reason)
        lab.log.write(CONTROL, 0, (None, encode_command(RollbackCommand(version))))
        lab.finish()

        assert lab.start().progress.epoch == epoch
    assert f"version {version} is blocked: bad" in caplog.text


class ShownItems:
    """Shown items with their outcomes, closed step by step as a model would close them."""

    def __init__(self) -> None:
        self.model, self.rng = RecommenderModel(), np.random.default_rng(0)
        self.slope = self.rng.normal(0, 1, len(self.model.feature_names)).astype(np.float32)

    def close(self, n: int, broken: bool) -> ClosedImpressions:
        x = self.rng.normal(0, 1, (n, self.slope.size)).astype(np.float32)
        label = (self.rng.random(n) < 1 / (1 + np.exp(3 - x @ self.slope))).astype(np.float32)
        hidden = self.model.slate_ranker.hidden(x)
        p = self.model.click_head.predict(hidden)
        self.model.click_head.learn(hidden, label)
        rows = np.arange(n)
        lists = ListView(rows, rows, np.arange(n + 1), label)
        return ClosedImpressions(lists, 1 - p if broken else p, x, position_offset=np.zeros(n, np.float32))


def test_learner_worse_than_its_reference_is_degraded() -> None:
    items, reference = ShownItems(), ReferenceModel()
    for step in range(60):
        reference.update(items.close(200, broken=False), f"v{step}", items.model.copy_click_predictor)

        assert reference.degradation_reason() == ""
    for _ in range(16):
        reference.update(items.close(200, broken=True), "broken", items.model.copy_click_predictor)

    assert reference.degradation_reason().startswith("log loss of")
    assert "where v" in reference.degradation_reason()

    reference.reset()

    assert reference.degradation_reason() == ""


def test_change_of_preferences_degrades_no_version() -> None:
    items, reference = ShownItems(), ReferenceModel()
    for step in range(60):
        if step == 30:
            items.slope = -items.slope
        reference.update(items.close(200, broken=False), f"v{step}", items.model.copy_click_predictor)

        assert reference.degradation_reason() == ""
    assert isinstance(items.model.click_head, ClickHead)
