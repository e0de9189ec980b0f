"""Guard trials on the live stream and learn code: poison is undone, genuine change is not."""

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
from online_models.guard.bins import Bin
from online_models.model import RecommenderModel, settings_with_seed
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.progress import Progress
from online_models.training.rollback import progress_after_rollback
from online_models.training.step import apply_step, read_blocks
from online_models.training.updates import decode_update
from online_models.versions import listing
from online_models.worker import LearnWorker
from replay.simulation.guard_trials import InProcessSystem, TrialResult, TrialRunner
from replay.simulation.scenarios import SCENARIOS, EventDict, Scenario, run_scenario
from stream.alarms import read_alarms
from stream.config import GuardSettings
from stream.topics import CONTROL, EVENTS, EXAMPLES, MODEL_UPDATES
from tests.support.learner_lab import find_differences, read_bits

POISON = [scenario for scenario in SCENARIOS if scenario.truth == "poison"]
GENUINE = [scenario for scenario in SCENARIOS if scenario.truth != "poison"]
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
ROLLED_BACK = (
    "pumping group", "shilling group", "coordinated group", "broken button", "label flip 5 %", "label flip 30 %",
    "worse version",
)  # fmt: skip
WARMUP = 40.0  # minutes
SHARED_WARMUP = 38.0  # minutes that all trials share


@pytest.fixture(scope="module")
def run_shared_trial(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrialResult]:
    """Run a scenario in a forked process that continues from a shared warmup."""
    folder = tmp_path_factory.mktemp("warmup")
    with chdir(folder):  # the runner uses a relative path, so that each trial has its own copy of the folder
        runner = TrialRunner(Path("shop"))
        runner.run_warmup(SHARED_WARMUP)
        runner.system.learn_worker.wait_for_checkpoint()

    def run(scenario: Scenario, copy: Path, linger: float = 1e9) -> TrialResult:
        shutil.copytree(folder, copy)
        os.chdir(copy)
        # A checkpoint starts a new journal file: the open one is shared by all trials.
        runner.system.learn_worker.save()
        return runner.run(scenario, WARMUP, duration=25, linger=linger)

    return lambda scenario, **options: run_forked(
        lambda: run(scenario, tmp_path_factory.mktemp("trial") / "warmup", **options)
    )


def run_forked(work: Callable[[], TrialResult]) -> TrialResult:
    """Run `work` in a forked process, so that the state of this one does not change."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=lambda: sender.send(work()))
    process.start()
    sender.close()
    try:
        trial: TrialResult = receiver.recv()
    finally:
        process.join()
    return trial


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", POISON, ids=lambda scenario: scenario.name)
def test_poison_is_detected_by_its_detector_and_undone(
    scenario: Scenario, run_shared_trial: Callable[..., TrialResult]
) -> None:
    # A scenario that ends runs to its end, since training must resume. For the others the start is enough.
    trial = run_shared_trial(scenario, linger=25 if scenario.duration_minutes < 25 else 4)

    assert trial.alarms_before == 0
    assert trial.alarms[0].kind == "poison"
    assert trial.alarms[0].detector in scenario.detectors
    assert trial.detectors <= scenario.detectors
    assert trial.n_poisoned is not None
    assert trial.n_poisoned < 2_000
    assert (trial.rollbacks > 0) == (scenario.name in ROLLED_BACK)
    assert not trial.is_paused_at_end


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", GENUINE, ids=lambda scenario: scenario.name)
def test_genuine_change_is_neither_poison_nor_undone(
    scenario: Scenario, run_shared_trial: Callable[..., TrialResult]
) -> None:
    trial = run_shared_trial(scenario)

    assert trial.alarms_before == 0
    assert trial.kinds <= {"drift"}
    assert trial.detectors <= scenario.detectors
    assert (trial.rollbacks, trial.n_quarantined) == (0, 0)


def shorten(name: str, minutes: float) -> Scenario:
    scenario = BY_NAME[name]
    return Scenario(scenario.name, scenario.truth, scenario.detectors, scenario.on_start, scenario.transform, minutes)


def run_scenario_on(system: InProcessSystem, scenario: Scenario, restart_every: int = 0) -> InProcessSystem:
    """Run a warmup and the scenario; the learner restarts every `restart_every` batches."""
    pending, n_sent = [], 0
    for _, events in run_scenario(scenario, seed=1, visits_per_second=2.0, warmup=34.0, duration=18.0):
        pending += events
        if len(pending) < 64:
            continue
        system.send_events(pending)
        pending, n_sent = [], n_sent + 1
        if restart_every and n_sent % restart_every == 0:
            restart(system)
    system.run_until_idle()
    return system


def restart(system: InProcessSystem) -> None:
    system.learn_worker.wait_for_checkpoint()
    system.log.leave(EXAMPLES, "learn")
    system.learn_worker = LearnWorker(system.log, system.settings, system.clock)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_learner_restarts_during_a_pause_with_the_same_bits(
    tmp_path: Path,
) -> None:
    system = run_scenario_on(InProcessSystem(tmp_path), shorten("broken button", 10), restart_every=9)
    alarms, progress = read_alarms(system.log), system.learn_worker.progress
    folder = system.settings.checkpoints / "journal"
    model, replayed, reasons = RecommenderModel(settings_with_seed(0)), Progress(), []
    for entry in journal.read_entries_after(folder, journal.epoch_path(folder, progress.epoch, progress.step), 1, 0):
        if isinstance(entry, Rollback):
            replayed = progress_after_rollback(replayed, entry)
            reasons.append(entry.reason)
        else:
            apply_step(system.log, model, replayed, entry, list(read_blocks(system.log, entry.ranges)))

    assert [alarm.detector for alarm in alarms] == ["action_outage", "action_outage"]
    assert system.learn_worker.pause is None
    assert progress.epoch == 3
    assert set(reasons) == {alarms[0].id}
    assert find_differences(read_bits(model.state()), read_bits(system.learn_worker.model.state())) == []
    assert progress.example_offsets[0] == system.log.end_offset(EXAMPLES, 0)
    [(first, next_)] = progress.skip_impressions[0]
    assert _no_purchases(system, first, next_)


def _no_purchases(system: InProcessSystem, first: int, next_: int) -> bool:
    """Return True if the excluded range is the outage: it has hardly any purchases."""
    values = system.log.read(EVENTS, 0, first, next_ - first).values
    events: list[EventDict] = [msgspec.json.decode(value or b"") for value in values]
    n_purchases = [event["type"] for event in events].count("purchase")
    return n_purchases < 0.02 * len(events)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_remedies_versions_are_marked_with_the_alarm(tmp_path: Path) -> None:
    system = run_scenario_on(
        InProcessSystem(tmp_path, GuardSettings(auto_remediate=False)), shorten("broken button", 10)
    )
    system.learn_worker.save()
    system.learn_worker.wait_for_checkpoint()
    marks = [info.manifest.open_alarm for info in listing.read_versions(system.settings.checkpoints) if info.manifest]

    assert [alarm.remedy for alarm in read_alarms(system.log)] == ["none: guard.auto_remediate is off"]
    assert system.learn_worker.progress.epoch == 1
    assert marks[0] == ""
    assert marks[-1] == read_alarms(system.log)[0].id


def test_gradient_norm_alarm_blocks_updates_and_versions(tmp_path: Path) -> None:
    system = InProcessSystem(tmp_path)
    assert system.learn_worker.guard
    gradient_norms = system.learn_worker.guard.suite.gradient_norms
    visits = run_scenario(SCENARIOS[0], seed=1, visits_per_second=2.0, warmup=2.0, duration=0.0)
    for bins in ([], [1.0] * 40 + [10.0] * 3, [1.0]):
        for norm in bins:
            norms = {("gradient_norm", "slate_ranker"): (50 * norm, 50)}
            gradient_norms.update([Bin({}, 0, squared_norms=norms)])
        system.send_events([event for _, events in islice(visits, 40) for event in events])
        system.learn_worker.save()
        system.learn_worker.wait_for_checkpoint()
    records = system.log.read(MODEL_UPDATES, 0, 0, 100)
    updates = [decode_update(value or b"").blocked_reason for value in records.values]
    infos = listing.read_versions(system.settings.checkpoints)
    versions = [info.manifest.blocked_reason for info in infos if info.manifest]

    assert [bool(reason) for reason in versions] == [False, True, False]
    assert versions[1].endswith(": slate_ranker")
    assert versions[1] in updates
    assert updates[-1] == ""


def test_alarm_lost_in_a_crash_is_raised_after_the_restart(
    tmp_path: Path,
) -> None:
    system = InProcessSystem(tmp_path)
    for reason in ("action_outage-x-0.7", "manual"):
        command = RollbackCommand("000001-000000001", None, reason)
        system.log.append(CONTROL, 0, [(None, encode_command(command))])
    for _ in range(2):
        restart(system)

    assert [alarm.id for alarm in read_alarms(system.log)] == ["action_outage-x-0.7"]
