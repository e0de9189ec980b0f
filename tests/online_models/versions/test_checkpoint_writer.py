"""Checkpoints are written beside the learning."""

from pathlib import Path

import numpy as np
import pytest

from online_models.versions.checkpoint_writer import CheckpointWriter, retained_versions
from online_models.versions.checkpoints import list_version_names, load
from tests.online_models.versions.test_checkpoints import manifest


def test_a_checkpoint_holds_the_state_of_the_moment_it_was_begun(tmp_path: Path) -> None:
    keeper, learnt = CheckpointWriter(tmp_path, n_kept=5), np.zeros(1_000_000)
    keeper.save(manifest(1), {"part.array": learnt})
    learnt[:] = 1
    keeper.wait()
    _, state = load(tmp_path, "000001-000000001")

    assert not state["part.array"].any()


def test_the_newest_few_the_first_of_the_hour_and_the_spared_one_are_kept(tmp_path: Path) -> None:
    keeper = CheckpointWriter(tmp_path, n_kept=2)
    for step in range(1, 7):
        keeper.save(manifest(step), {"part.array": np.zeros(1)}, protected_version="000001-000000003")
    keeper.wait()

    assert list_version_names(tmp_path) == [f"000001-00000000{step}" for step in (1, 3, 5, 6)]


def test_one_that_cannot_be_written_is_told_and_the_next_one_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "file"
    folder.touch()
    keeper = CheckpointWriter(folder, n_kept=2)
    keeper.save(manifest(1), {"part.array": np.zeros(1)})
    keeper.wait()

    assert "a checkpoint was not written" in caplog.text
    assert "checkpoint 000001-000000001 not written" in capfd.readouterr().err

    folder.unlink()
    keeper.save(manifest(2), {"part.array": np.zeros(1)})
    keeper.poll()
    keeper.wait()

    assert list_version_names(folder) == ["000001-000000002"]


MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000


def kept_over(days: int) -> list[int]:
    """Minutes at which the checkpoints were made that are left, one having been made each minute."""
    kept: dict[str, int] = {}
    for minute in range(days * 1440 + 1):
        kept[f"{minute:09}"] = minute * MINUTE
        kept = {version: kept[version] for version in retained_versions(kept, n_newest=20)}
    return sorted(time // MINUTE for time in kept.values())


def test_of_a_long_life_minutes_hours_and_days_are_left() -> None:
    left, now = kept_over(10), 10 * 1440

    assert left[-20:] == list(range(now - 19, now + 1))
    assert {now - 60 * hours for hours in range(1, 25)} <= set(left)
    assert {now - 1440 * days for days in range(1, 8)} <= set(left)
    assert len(left) <= 20 + 25 + 8


def test_a_learner_that_stood_still_loses_nothing() -> None:
    made = {f"{n}": n * HOUR for n in range(5)}

    assert retained_versions(made, n_newest=2) == set(made)
    assert retained_versions({}, n_newest=2) == set()
