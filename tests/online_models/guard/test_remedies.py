"""What is done about poison, and what is not."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from online_models.control import ExcludeActionsCommand, PauseCommand, RollbackCommand
from online_models.guard.findings import Finding
from online_models.guard.remedies import RemedyPlanner
from online_models.training.step import Progress
from online_models.versions import gate
from online_models.versions.checkpoints import save
from stream.testing import ManualClock, MemoryLog
from stream.topics import EXAMPLES
from tests.online_models.versions.test_checkpoints import STATE, manifest

GROUP = ((0, 16), (0, 17), (0, 19), (0, 20), (0, 22))
POISON = Finding("stream", "poison", "flood", "u1", {}, {0: 15}, needs_rollback=True)


def log(kept_from: int = 0) -> MemoryLog:
    made = MemoryLog(clock=ManualClock(0))
    made.create(EXAMPLES, 1)
    made.append(EXAMPLES, 0, [(None, b"")] * 10)
    made.trim(EXAMPLES, 0, kept_from)
    return made


def test_what_can_be_undone_is_and_what_it_taught_is_refused(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, manifest(step), STATE)
    remedies = RemedyPlanner(log(), tmp_path, is_enabled=True)
    remedy = remedies.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0)

    assert [order.version for order in remedy.commands] == ["000001-000000001"]
    assert remedies.block_reason == "alarm alarm is open"
    assert list(gate.list_blocked(tmp_path)) == ["000001-000000002"]


def test_what_cannot_be_undone_is_lived_with_and_answers_follow(tmp_path: Path) -> None:
    save(tmp_path, manifest(2), STATE)
    remedies = RemedyPlanner(log(), tmp_path, is_enabled=True)
    remedy = remedies.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0)

    assert remedy.commands == ()
    assert remedies.block_reason == ""
    assert gate.list_blocked(tmp_path) == {}


def test_nothing_goes_back_behind_what_the_log_keeps(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    remedies = RemedyPlanner(log(kept_from=10), tmp_path, is_enabled=True)

    assert remedies.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0).commands == ()


def test_one_more_item_of_a_group_that_was_left_out_asks_for_nothing_more(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    remedies = RemedyPlanner(log(), tmp_path, is_enabled=True)
    group = replace(POISON, detector="shilling", subject="i1", events=GROUP)
    first = remedies.remedy_for(group, "one", {0: 30}, Progress(), ts=0)
    remedies.close_alarm()
    second = remedies.remedy_for(replace(group, subject="i2"), "two", {0: 30}, Progress(), ts=1)

    assert len(first.commands) == 1
    assert second.commands == ()
    assert remedies.open_alarm == ""


def test_a_flip_is_left_out_of_slates_and_of_the_past_and_learning_is_held(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    flip = replace(POISON, detector="label_flip", slates_only=True, is_impersonated=True, end_condition=0.4)
    remedy = RemedyPlanner(log(), tmp_path, is_enabled=True).remedy_for(flip, "alarm", {0: 30}, Progress(), ts=5)
    ranges = {"0": [(15, 30)]}

    assert remedy.commands == (
        ExcludeActionsCommand(ranges, "alarm"),
        RollbackCommand("000001-000000001", {}, "alarm", ranges),
        PauseCommand("alarm", "000001-000000001", {"0": 15}, start_ts=5, baseline_click_rate=0.4),
    )


def test_what_is_found_while_learning_is_held_is_undone_when_it_goes_on(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    remedies = RemedyPlanner(log(), tmp_path, is_enabled=True)
    held = remedies.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0, is_paused=True)
    due = remedies.pending({0: 30}, Progress(), ts=1)

    assert held.commands == ()
    assert due is not None
    assert due[1].commands == (RollbackCommand("000001-000000001", {"0": [(15, 30)]}, "alarm"),)


def test_remedies_come_ever_more_seldom_and_after_so_many_are_left_to_people(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    remedies, at = RemedyPlanner(log(), tmp_path, is_enabled=True), []
    for minute in range(24 * 60):
        ts = (minute + 1) * 60_000
        remedy = remedies.remedy_for(POISON, f"alarm-{minute}", {0: 30}, Progress(), ts)
        due = remedies.pending({0: 30}, Progress(), ts)
        at += [minute] if remedy.commands or (due and due[1].commands) else []

    assert np.diff(at).tolist() == [2, 4, 8, 16, 32, 64, 128]
    assert remedy.description.startswith("left to people")
