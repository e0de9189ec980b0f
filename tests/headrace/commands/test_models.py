"""The list of versions tells what was rolled back between them, and why."""

from pathlib import Path

import pytest

from headrace.commands.models import ExcludedRanges, list_versions, rollback
from online_models.control import CheckpointCommand, RollbackCommand
from tests.support.learner_lab import Lab, lessons

ORDERS = {
    (1, 3): CheckpointCommand(),
    (1, 5): RollbackCommand("000001-000000003", {"0": [(20, 60)]}, "label_flip-0.20"),
    (2, 5): CheckpointCommand(),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lab = Lab(tmp_path, lessons(), ORDERS).finish()
    lab.start()._checkpoint_writer.wait()
    monkeypatch.setenv("HEADRACE_DATA__FOLDER", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def test_rollbacks_stand_between_the_versions_with_the_alarm_that_they_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    list_versions(None, as_json=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if "00000" in line]

    assert ["epoch 2" in line for line in lines].count(True) == 1
    assert [line.split()[1] for line in lines if "epoch" not in line][-1] == "000002-000000005"
    assert "rolled back to 000001-000000003: label_flip-0.20" in lines[-2]


@pytest.mark.parametrize(
    ("version", "left_out", "fault"),
    [
        ("000009-000000001", ExcludedRanges([], [], False), "there is no checkpoint"),
        ("000001-000000003", ExcludedRanges(["0:5"], [], False), "--skip '0:5' is not PARTITION:FROM-TO"),
        ("000001-000000003", ExcludedRanges([], ["0:9-3"], False), "--impressions '0:9-3' is not PARTITION:FROM-TO"),
        ("000001-000000003", ExcludedRanges([], [], True), "--downstream follows what was skipped"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    folder: Path, version: str, left_out: ExcludedRanges, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = rollback(version, left_out, None, as_json=True)
    told = capsys.readouterr()

    assert code == 1
    assert fault in told.out + told.err
