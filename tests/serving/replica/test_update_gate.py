"""The gate admits updates below the first blocked version, and lists servable ones."""

import logging
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from online_models.training.updates import ModelUpdate
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import Manifest, version_name
from serving.replica.update_gate import UpdateGate


def update_to(step: int, blocked_reason: str = "") -> ModelUpdate:
    return ModelUpdate(1, step, "", 0, 0, {}, {}, blocked_reason)


def save_versions(folder: Path, *steps: int) -> None:
    for step in steps:
        version = version_name(1, step)
        manifest = Manifest(version=version, epoch=1, step=step, parent=None, created=0, example_offsets={}, offsets={})
        checkpoints.save(folder, manifest, {})


def is_blocked() -> bool:
    return REGISTRY.get_sample_value("headrace_serve_update_blocked") == 1


def test_updates_below_the_blocked_version_are_admitted(tmp_path: Path) -> None:
    save_versions(tmp_path, 2, 5, 8)
    gate.override(tmp_path, version_name(1, 5), "poison")
    gate.override(tmp_path, version_name(1, 8), "other")
    update_gate = UpdateGate(tmp_path)
    update_gate.reset(1, version_name(1, 2))

    admitted = [update_gate.admits(update_to(step), version_name(1, 2)) for step in (3, 4, 5, 6, 9)]

    assert admitted == [True, True, False, False, False]
    assert update_gate.reason == "000001-000000005 is blocked: poison"
    assert is_blocked()
    update_gate.open()
    assert not is_blocked()


def test_blocked_versions_at_or_below_the_state_do_not_count(tmp_path: Path) -> None:
    save_versions(tmp_path, 2, 5)
    gate.override(tmp_path, version_name(1, 5), "poison")
    update_gate = UpdateGate(tmp_path)

    update_gate.reset(1, version_name(1, 5))
    assert update_gate.admits(update_to(6), version_name(1, 5))

    update_gate.reset(2, version_name(2, 5))
    assert update_gate.admits(update_to(6), version_name(2, 5))


def test_reason_of_an_update_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    update_gate = UpdateGate(tmp_path)
    with caplog.at_level(logging.WARNING):
        for step in (3, 4, 5):
            assert not update_gate.admits(update_to(step, "alarm x is open"), version_name(1, 2))

    assert update_gate.reason == "alarm x is open"
    assert len(caplog.records) == 1


def test_blocked_version_is_reported_before_its_updates(tmp_path: Path) -> None:
    save_versions(tmp_path, 2, 5)
    gate.override(tmp_path, version_name(1, 5), "poison")
    update_gate = UpdateGate(tmp_path)
    update_gate.reset(1, version_name(1, 2))

    assert update_gate.reason == ""
    update_gate.report_blocked_version()
    assert update_gate.reason == "000001-000000005 is blocked: poison"


def test_newer_servable_versions_are_listed_oldest_first(tmp_path: Path) -> None:
    save_versions(tmp_path, 2, 5, 7, 8)
    gate.override(tmp_path, version_name(1, 7), "poison")
    update_gate = UpdateGate(tmp_path)

    assert update_gate.find_servable(1, version_name(1, 2)) == [version_name(1, 5), version_name(1, 8)]
    assert update_gate.find_servable(1, version_name(1, 8)) == []
    assert update_gate.find_servable(2, version_name(1, 2)) == []


def test_attempt_is_repeated_only_after_a_change(tmp_path: Path) -> None:
    update_gate = UpdateGate(tmp_path)

    attempts = [("a", []), ("a", []), ("a", ["b"]), ("a", ["b"]), ("a", ["b", "c"]), ("b", ["c"])]
    assert [update_gate.is_new_attempt(*attempt) for attempt in attempts] == [True, False, True, False, True, True]
