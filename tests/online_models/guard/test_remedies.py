"""Remedies: rollback target, offsets left out, pauses, and time between rollbacks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from online_models.control import ClickRateReturns, ExcludeActionsCommand, PauseCommand, RollbackCommand
from online_models.guard.findings import BlockServing, Finding, PauseUntil, RemoveEvents, RollBack, TruncateHistory
from online_models.guard.remedies import RemedyPlanner
from online_models.training.progress import Progress
from online_models.versions import gate
from online_models.versions.checkpoints import save
from stream.clock import MINUTE_MS
from stream.testing import ManualClock, MemoryLog
from stream.topics import EXAMPLES
from tests.online_models.versions.test_checkpoints import STATE, manifest

GROUP = RemoveEvents(((0, 16), (0, 17), (0, 19), (0, 20), (0, 22)), frozenset())
POISON = Finding("poison", "click_through", "", {}, {0: 15}, RollBack())


def make_log(kept_from: int = 0) -> MemoryLog:
    log = MemoryLog(clock=ManualClock(0))
    log.create(EXAMPLES, 1)
    log.append(EXAMPLES, 0, [(None, b"")] * 10)
    log.trim(EXAMPLES, 0, kept_from)
    return log


def make_planner(folder: Path, is_enabled: bool = True, kept_from: int = 0) -> RemedyPlanner:
    return RemedyPlanner(make_log(kept_from), folder, is_enabled)


def test_rollbacks_block_the_versions_trained_on_poison(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, manifest(step), STATE)
    planner = make_planner(tmp_path)
    remedy = planner.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0)

    assert [c.version for c in remedy.commands if isinstance(c, RollbackCommand)] == ["000001-000000001"]
    assert planner.block_reason == "alarm alarm is open"
    assert list(gate.list_blocked(tmp_path)) == ["000001-000000002"]


def test_poison_that_cannot_be_undone_does_not_block_serving(tmp_path: Path) -> None:
    save(tmp_path, manifest(2), STATE)
    planner = make_planner(tmp_path)
    remedy = planner.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0)

    assert remedy.commands == ()
    assert planner.block_reason == ""
    assert gate.list_blocked(tmp_path) == {}


def test_rollbacks_stay_within_the_retention_of_the_log(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    planner = make_planner(tmp_path, kept_from=10)

    assert planner.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0).commands == ()


def test_second_items_of_a_removed_group_need_no_rollback(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    planner = make_planner(tmp_path)
    group = replace(POISON, detector="shilling", subject="i1", remedy=GROUP)
    first = planner.remedy_for(group, "first", {0: 30}, Progress(), ts=0)
    planner.close_alarm()
    second = planner.remedy_for(replace(group, subject="i2"), "second", {0: 30}, Progress(), ts=1)

    assert first.commands == (RollbackCommand("000001-000000001", {"0": [(16, 18), (19, 21), (22, 23)]}, "first"),)
    assert second.commands == ()
    assert planner.open_alarm == ""


def test_label_flips_leave_slates_and_histories_and_pause_training(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    condition = ClickRateReturns(0.4)
    flip = replace(POISON, detector="label_flip", remedy=PauseUntil(condition))
    remedy = make_planner(tmp_path).remedy_for(flip, "alarm", {0: 30}, Progress(), ts=5)
    ranges = {"0": [(15, 30)]}

    assert remedy.commands == (
        ExcludeActionsCommand(ranges, "alarm"),
        RollbackCommand("000001-000000001", {}, "alarm", ranges),
        PauseCommand("alarm", "000001-000000001", {"0": 15}, start_ts=5, end_condition=condition),
    )


@pytest.mark.parametrize(
    "finding",
    [
        POISON,
        replace(POISON, detector="gradient_norm", remedy=BlockServing()),
        Finding("drift", "preference_shift", "", {}, {0: 15}, TruncateHistory(1, 2)),
    ],
    ids=lambda finding: finding.detector,
)
def test_disabled_planners_give_no_commands_and_block_nothing(tmp_path: Path, finding: Finding) -> None:
    save(tmp_path, manifest(1), STATE)
    planner = make_planner(tmp_path, is_enabled=False)

    assert planner.remedy_for(finding, "alarm", {0: 30}, Progress(), ts=0).commands == ()
    assert planner.block_reason == ""


def test_findings_during_a_pause_are_undone_after_it(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    planner = make_planner(tmp_path)
    deferred = planner.remedy_for(POISON, "alarm", {0: 30}, Progress(), ts=0, is_paused=True)
    due = planner.pending({0: 30}, Progress(), ts=1)

    assert deferred.commands == ()
    assert due is not None
    assert due[1].commands == (RollbackCommand("000001-000000001", {"0": [(15, 30)]}, "alarm"),)


def test_rollbacks_back_off_and_stop_after_eight(tmp_path: Path) -> None:
    save(tmp_path, manifest(1), STATE)
    planner, minutes = make_planner(tmp_path), []
    for minute in range(24 * 60):
        ts = (minute + 1) * MINUTE_MS
        remedy = planner.remedy_for(POISON, f"alarm-{minute}", {0: 30}, Progress(), ts)
        due = planner.pending({0: 30}, Progress(), ts)
        minutes += [minute] if remedy.commands or (due and due[1].commands) else []

    assert np.diff(minutes).tolist() == [2, 4, 8, 16, 32, 64, 128]
    assert remedy.description.startswith("left to operators")
