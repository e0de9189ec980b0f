"""Scenarios of known truth, played to the live stream worker and learner: poison is undone, what is genuine is not."""

import multiprocessing
import os
import shutil
from collections.abc import Callable
from contextlib import chdir
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from online_models.control import RollbackCommand, encode_command
from online_models.model import RecommenderModel, settings_with_seed
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.rollback import apply_rollback
from online_models.training.step import Progress, apply_step, read_blocks
from online_models.training.updates import decode_update
from online_models.versions import listing
from online_models.worker import LearnWorker
from replay.simulation.guard_trials import InProcessSystem, TrialResult, TrialRunner
from replay.simulation.scenarios import SCENARIOS, Scenario, run_scenario
from stream.alarms import read_alarms
from stream.config import GuardSettings
from stream.topics import CONTROL, EVENTS, EXAMPLES, MODEL_UPDATES
from tests.support.learner_lab import bits_of, differing

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
UNDONE = (
    "pumping group", "shilling group", "coordinated group", "broken button", "label flip 5 %", "label flip 30 %",
    "worse version",
)  # fmt: skip
CALM = 40.0  # minutes
TOGETHER = 38.0  # of them, which the trials share


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrialResult]:
    """What comes of a scenario in the shop: each trial goes on from one calm in a process of its own."""
    folder = tmp_path_factory.mktemp("calm")
    with chdir(folder):  # the shop's own folder goes by a short name, so that each trial has a copy of it
        shop = TrialRunner(Path("shop"))
        shop.run_warmup(TOGETHER)
        shop.system.learn_worker._checkpoint_writer.wait()

    def meet(scenario: Scenario, copy: Path, linger: float = 1e9) -> TrialResult:
        shutil.copytree(folder, copy)
        os.chdir(copy)
        # A checkpoint, with which a journal begins: what is still open is the file that all trials share.
        shop.system.learn_worker.save()
        return shop.run(scenario, CALM, duration=25, linger=linger)

    return lambda scenario, **more: forked(lambda: meet(scenario, tmp_path_factory.mktemp("trial") / "calm", **more))


def forked(work: Callable[[], TrialResult]) -> TrialResult:
    """What comes of it in a forked process, which finds everything as it is here and leaves it so."""
    context = multiprocessing.get_context("fork")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=lambda: tell.send(work()))
    process.start()
    tell.close()
    try:
        trial: TrialResult = told.recv()
    finally:
        process.join()
    return trial


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.truth == "poison"], ids=lambda one: one.name)
def test_poison_is_told_as_poison_by_its_detector_and_undone(
    scenario: Scenario, met: Callable[..., TrialResult]
) -> None:
    # What ends, as a button that is mended, is waited for: learning goes on. Of the others the beginning tells all.
    trial = met(scenario, linger=25 if scenario.duration_minutes < 25 else 4)

    assert trial.alarms_before == 0
    assert trial.alarms[0].kind == "poison"
    assert trial.alarms[0].detector in scenario.detectors
    assert trial.detectors <= scenario.detectors
    assert trial.n_poisoned is not None
    assert trial.n_poisoned < 2_000
    assert (trial.rollbacks > 0) == (scenario.name in UNDONE)
    assert not trial.is_paused_at_end


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.truth != "poison"], ids=lambda one: one.name)
def test_what_is_genuine_is_never_told_as_poison_nor_undone(
    scenario: Scenario, met: Callable[..., TrialResult]
) -> None:
    trial = met(scenario)

    assert trial.alarms_before == 0
    assert trial.kinds <= {"drift"}
    assert trial.detectors <= scenario.detectors
    assert (trial.rollbacks, trial.n_quarantined) == (0, 0)


def shortened(name: str, minutes: float) -> Scenario:
    scenario = BY_NAME[name]
    return Scenario(scenario.name, scenario.truth, scenario.detectors, scenario.on_start, scenario.transform, minutes)


def played(rig: InProcessSystem, scenario: Scenario, dies_every: int = 0) -> InProcessSystem:
    """More than half an hour of calm, then the scenario; the learner may die now and then, without a word."""
    waiting, sent = [], 0
    for _, events in run_scenario(scenario, seed=1, visits_per_second=2.0, warmup=34.0, duration=18.0):
        waiting += events
        if len(waiting) < 64:
            continue
        rig.send_events(waiting)
        waiting, sent = [], sent + 1
        if dies_every and sent % dies_every == 0:
            restart(rig)
    rig.run_until_idle()
    return rig


def restart(rig: InProcessSystem) -> None:
    rig.learn_worker._checkpoint_writer.wait()
    rig.log.leave(EXAMPLES, "learn")
    rig.learn_worker = LearnWorker(rig.log, rig.settings, rig.clock)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_that_dies_while_it_is_held_goes_on_when_it_is_over_and_its_journal_leads_to_its_bits(
    tmp_path: Path,
) -> None:
    rig = played(InProcessSystem(tmp_path), shortened("broken button", 10), dies_every=9)
    alarms, progress = read_alarms(rig.log), rig.learn_worker.progress
    folder = rig.settings.checkpoints / "journal"
    stack, learnt, reasons = RecommenderModel(settings_with_seed(0)), Progress(), []
    for entry in journal.read_entries_after(folder, journal.epoch_path(folder, progress.epoch, progress.step), 1, 0):
        if isinstance(entry, Rollback):
            apply_rollback(learnt, entry)
            reasons.append(entry.reason)
        else:
            apply_step(rig.log, stack, learnt, entry, list(read_blocks(rig.log, entry.ranges)))

    assert [alarm.detector for alarm in alarms] == ["action_outage", "action_outage"]
    assert rig.learn_worker._pause is None
    assert progress.epoch == 3
    assert set(reasons) == {alarms[0].id}
    assert differing(bits_of(stack.state()), bits_of(rig.learn_worker.model.state())) == []
    assert progress.example_offsets[0] == rig.log.end_offset(EXAMPLES, 0)
    [(first, next_)] = progress.skip_impressions[0]
    assert _no_purchases(rig, first, next_)


def _no_purchases(rig: InProcessSystem, first: int, next_: int) -> bool:
    """Whether what was left out is the silence: hardly anything was bought in it."""
    events = [msgspec.json.decode(value or b"") for value in rig.log.read(EVENTS, 0, first, next_ - first).values]
    return sum(event["type"] == "purchase" for event in events) < 0.02 * len(events)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_remedies_there_are_alarms_alone_and_versions_made_meanwhile_are_marked(tmp_path: Path) -> None:
    rig = played(InProcessSystem(tmp_path, GuardSettings(auto_remediate=False)), shortened("broken button", 10))
    rig.learn_worker.save()
    rig.learn_worker._checkpoint_writer.wait()
    marks = [one.manifest.open_alarm for one in listing.read_versions(rig.settings.checkpoints) if one.manifest]

    assert [alarm.remedy for alarm in read_alarms(rig.log)] == ["none: guard.auto_remediate is off"]
    assert rig.learn_worker.progress.epoch == 1
    assert marks[0] == ""
    assert marks[-1] == read_alarms(rig.log)[0].id


def test_while_gradients_are_far_too_long_neither_updates_nor_versions_may_be_served(tmp_path: Path) -> None:
    rig = InProcessSystem(tmp_path)
    assert rig.learn_worker._guard
    norms, visits = (
        rig.learn_worker._guard._suite.gradient_norms,
        run_scenario(SCENARIOS[0], seed=1, visits_per_second=2.0, warmup=2.0, duration=0.0),
    )
    for opened in (None, ("gradient_norm", "slate_ranker"), None):
        norms._active = opened
        rig.send_events([event for _, events in islice(visits, 40) for event in events])
        rig.learn_worker.save()
        rig.learn_worker._checkpoint_writer.wait()
    told = [decode_update(value or b"").blocked_reason for value in rig.log.read(MODEL_UPDATES, 0, 0, 100).values]
    versions = [one.manifest.blocked_reason for one in listing.read_versions(rig.settings.checkpoints) if one.manifest]

    assert [bool(refused) for refused in versions] == [False, True, False]
    assert versions[1] == "gradients are far longer than they ever were: orderer"
    assert versions[1] in told
    assert told[-1] == ""


def test_an_alarm_that_was_lost_when_the_process_died_behind_its_remedy_is_told_after_the_restart(
    tmp_path: Path,
) -> None:
    rig = InProcessSystem(tmp_path)
    rig.log.append(
        CONTROL, 0, [(None, encode_command(RollbackCommand("000001-000000001", None, "action_outage-x-0.7")))]
    )
    rig.log.append(CONTROL, 0, [(None, encode_command(RollbackCommand("000001-000000001", None, "manual")))])
    for _ in range(2):
        restart(rig)

    assert [alarm.id for alarm in read_alarms(rig.log)] == ["action_outage-x-0.7"]
