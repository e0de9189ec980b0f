"""Checkpoints are written while training goes on."""

from pathlib import Path

import numpy as np
import pytest

from online_models import metrics
from online_models.versions.checkpoint_writer import CheckpointWriter, retained_versions
from online_models.versions.checkpoints import list_version_names, load
from stream.clock import HOUR_MS, MINUTE_MS
from tests.online_models.versions.test_checkpoints import manifest


def test_checkpoint_holds_the_state_as_of_save(tmp_path: Path) -> None:
    writer, parameters = CheckpointWriter(tmp_path, n_kept=5), np.zeros(1_000_000)
    writer.save(manifest(1), {"part.array": parameters})
    parameters[:] = 1
    writer.wait()
    _, state = load(tmp_path, "000001-000000001")

    assert not state["part.array"].any()


def test_newest_first_of_the_hour_and_protected_are_kept(tmp_path: Path) -> None:
    writer = CheckpointWriter(tmp_path, n_kept=2)
    for step in range(1, 7):
        writer.save(manifest(step), {"part.array": np.zeros(1)}, protected_version="000001-000000003")
    writer.wait()

    assert list_version_names(tmp_path) == [f"000001-00000000{step}" for step in (1, 3, 5, 6)]


def test_failed_write_is_logged_and_the_next_one_succeeds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "file"
    folder.touch()
    writer = CheckpointWriter(folder, n_kept=2)
    writer.save(manifest(1), {"part.array": np.zeros(1)})

    assert writer.wait() is False
    assert writer.wait() is None
    assert metrics.checkpoint_failing._value.get() == 1
    assert "a checkpoint was not written" in caplog.text
    assert "checkpoint 000001-000000001 not written" in capfd.readouterr().err

    folder.unlink()
    writer.save(manifest(2), {"part.array": np.zeros(1)})
    reports = [writer.poll(), writer.wait()]

    assert True in reports
    assert metrics.checkpoint_failing._value.get() == 0
    assert list_version_names(folder) == ["000001-000000002"]


def retained_minutes(days: int) -> list[int]:
    """Creation minutes of the checkpoints that remain when each minute adds one."""
    kept: dict[str, int] = {}
    for minute in range(days * 1440 + 1):
        kept[f"{minute:09}"] = minute * MINUTE_MS
        kept = {version: kept[version] for version in retained_versions(kept, n_newest=20)}
    return sorted(time // MINUTE_MS for time in kept.values())


def test_minutes_hours_and_days_remain_of_a_long_run() -> None:
    minutes, now = retained_minutes(10), 10 * 1440

    assert minutes[-20:] == list(range(now - 19, now + 1))
    assert {now - 60 * hours for hours in range(1, 25)} <= set(minutes)
    assert {now - 1440 * days for days in range(1, 8)} <= set(minutes)
    assert len(minutes) <= 20 + 25 + 8


def test_paused_learner_loses_no_checkpoint() -> None:
    created = {f"{n}": n * HOUR_MS for n in range(5)}

    assert retained_versions(created, n_newest=2) == set(created)
    assert retained_versions({}, n_newest=2) == set()
