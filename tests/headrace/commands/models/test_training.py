"""`headrace models pause` and `resume` report if a learner answered."""

import json
from pathlib import Path

import pytest

from headrace.commands.models.training import pause_learning, resume_learning
from tests.support.live_folder import LiveFolder


def test_pause_lasts_until_resume(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    with live.run_learner():
        codes = [pause_learning("maintenance", None)]
        pause = live.learn.pause
        codes.append(resume_learning(None))

    assert codes == [0, 0]
    assert pause is not None
    assert pause.reason == "maintenance"
    assert live.learn.pause is None
    assert "Training is paused" in capsys.readouterr().out


@pytest.mark.parametrize(("wait_s", "code"), [(0.05, 1), (0.0, 0)], ids=["wait", "no wait"])
def test_pause_without_a_learner_says_that_it_waits(
    live: LiveFolder, wait_s: float, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pause_learning("", None, wait_s) == code
    assert "`headrace models pending`" in capsys.readouterr().out


def test_json_says_if_the_learner_answered(live: LiveFolder, capsys: pytest.CaptureFixture[str]) -> None:
    resume_learning(None, 0.05, as_json=True)

    assert json.loads(capsys.readouterr().out)["done"] is False


def test_folder_without_an_installation_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path / "none"))

    with pytest.raises(FileNotFoundError, match="HEADRACE_DATA__FOLDER"):
        pause_learning("", None)
    assert not (tmp_path / "none").exists()
