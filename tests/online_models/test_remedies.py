"""What is done about poison, and what is not."""

from pathlib import Path

from online_models import gate
from online_models.checkpoints import save
from online_models.findings import Finding
from online_models.lessons import Progress
from online_models.remedies import Remedies
from tests.online_models.test_checkpoints import STATE, manifest

POISON = Finding("stream", "poison", "flood", "u1", {}, {0: 15}, undo=True)


def test_what_can_be_undone_is_and_what_it_taught_is_refused(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, manifest(step), STATE)
    remedies = Remedies(tmp_path, allowed=True)
    remedy = remedies.of(POISON, "alarm", {0: 30}, Progress(), ts=0)

    assert [order.version for order in remedy.orders] == ["000001-000000001"]
    assert remedies.refusal == "alarm alarm is open"
    assert list(gate.refused(tmp_path)) == ["000001-000000002"]


def test_what_cannot_be_undone_is_lived_with_and_answers_follow(tmp_path: Path) -> None:
    save(tmp_path, manifest(2), STATE)
    remedies = Remedies(tmp_path, allowed=True)
    remedy = remedies.of(POISON, "alarm", {0: 30}, Progress(), ts=0)

    assert remedy.orders == ()
    assert remedies.refusal == ""
    assert gate.refused(tmp_path) == {}
