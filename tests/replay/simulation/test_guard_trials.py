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

from online_models.control import RollbackOrder, encode_order
from online_models.model import Stack, seeded
from online_models.training import journal
from online_models.training.journal import Rollback
from online_models.training.rollback import go_back
from online_models.training.step import Progress, blocks_of, take
from online_models.training.updates import decode_update
from online_models.versions import listing
from online_models.worker import LearnWorker
from replay.simulation.guard_trials import Rig, Shop, Trial
from replay.simulation.scenarios import SCENARIOS, Scenario, play
from stream.alarms import known_alarms
from stream.config import Guard
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
def met(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Trial]:
    """What comes of a scenario in the shop: each trial goes on from one calm in a process of its own."""
    folder = tmp_path_factory.mktemp("calm")
    with chdir(folder):  # the shop's own folder goes by a short name, so that each trial has a copy of it
        shop = Shop(Path("shop"))
        shop.open(TOGETHER)
        shop.rig.learn._keeper.wait()

    def meet(scenario: Scenario, copy: Path, linger: float = 1e9) -> Trial:
        shutil.copytree(folder, copy)
        os.chdir(copy)
        # A checkpoint, with which a journal begins: what is still open is the file that all trials share.
        shop.rig.learn.save()
        return shop.meet(scenario, CALM, length=25, linger=linger)

    return lambda scenario, **more: forked(lambda: meet(scenario, tmp_path_factory.mktemp("trial") / "calm", **more))


def forked(work: Callable[[], Trial]) -> Trial:
    """What comes of it in a forked process, which finds everything as it is here and leaves it so."""
    context = multiprocessing.get_context("fork")
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=lambda: tell.send(work()))
    process.start()
    tell.close()
    try:
        trial: Trial = told.recv()
    finally:
        process.join()
    return trial


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.truth == "poison"], ids=lambda one: one.name)
def test_poison_is_told_as_poison_by_its_detector_and_undone(scenario: Scenario, met: Callable[..., Trial]) -> None:
    # What ends, as a button that is mended, is waited for: learning goes on. Of the others the beginning tells all.
    trial = met(scenario, linger=25 if scenario.minutes < 25 else 4)

    assert trial.before == 0
    assert trial.alarms[0].kind == "poison"
    assert trial.alarms[0].detector in scenario.detectors
    assert trial.detectors <= scenario.detectors
    assert trial.poisoned is not None
    assert trial.poisoned < 2_000
    assert (trial.rollbacks > 0) == (scenario.name in UNDONE)
    assert not trial.held_at_end


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", [one for one in SCENARIOS if one.truth != "poison"], ids=lambda one: one.name)
def test_what_is_genuine_is_never_told_as_poison_nor_undone(scenario: Scenario, met: Callable[..., Trial]) -> None:
    trial = met(scenario)

    assert trial.before == 0
    assert trial.kinds <= {"drift"}
    assert trial.detectors <= scenario.detectors
    assert (trial.rollbacks, trial.quarantined) == (0, 0)


def shortened(name: str, minutes: float) -> Scenario:
    scenario = BY_NAME[name]
    return Scenario(scenario.name, scenario.truth, scenario.detectors, scenario.happen, scenario.change, minutes)


def played(rig: Rig, scenario: Scenario, dies_every: int = 0) -> Rig:
    """More than half an hour of calm, then the scenario; the learner may die now and then, without a word."""
    waiting, sent = [], 0
    for _, events in play(scenario, seed=1, pace=2.0, calm=34.0, length=18.0):
        waiting += events
        if len(waiting) < 64:
            continue
        rig.send(waiting)
        waiting, sent = [], sent + 1
        if dies_every and sent % dies_every == 0:
            restart(rig)
    rig.settle()
    return rig


def restart(rig: Rig) -> None:
    rig.learn._keeper.wait()
    rig.log.leave(EXAMPLES, "learn")
    rig.learn = LearnWorker(rig.log, rig.settings, rig.clock)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_learner_that_dies_while_it_is_held_goes_on_when_it_is_over_and_its_journal_leads_to_its_bits(
    tmp_path: Path,
) -> None:
    rig = played(Rig(tmp_path), shortened("broken button", 10), dies_every=9)
    alarms, progress = known_alarms(rig.log), rig.learn.progress
    folder = rig.settings.checkpoints / "journal"
    stack, learnt, reasons = Stack(seeded(0)), Progress(), []
    for entry in journal.since(folder, journal.way(folder, progress.epoch, progress.step), 1, 0):
        if isinstance(entry, Rollback):
            go_back(learnt, entry)
            reasons.append(entry.reason)
        else:
            take(rig.log, stack, learnt, entry, list(blocks_of(rig.log, entry.reads)))

    assert [alarm.detector for alarm in alarms] == ["silence", "silence"]
    assert rig.learn._hold is None
    assert progress.epoch == 3
    assert set(reasons) == {alarms[0].id}
    assert differing(bits_of(stack.state()), bits_of(rig.learn.stack.state())) == []
    assert progress.examples[0] == rig.log.end(EXAMPLES, 0)
    [(first, next_)] = progress.slates[0]
    assert _no_purchases(rig, first, next_)


def _no_purchases(rig: Rig, first: int, next_: int) -> bool:
    """Whether what was left out is the silence: hardly anything was bought in it."""
    events = [msgspec.json.decode(value or b"") for value in rig.log.read(EVENTS, 0, first, next_ - first).values]
    return sum(event["type"] == "purchase" for event in events) < 0.02 * len(events)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_without_remedies_there_are_alarms_alone_and_versions_made_meanwhile_are_marked(tmp_path: Path) -> None:
    rig = played(Rig(tmp_path, Guard(remedy=False)), shortened("broken button", 10))
    rig.learn.save()
    rig.learn._keeper.wait()
    marks = [one.manifest.alarm for one in listing.listing(rig.settings.checkpoints) if one.manifest]

    assert [alarm.remedy for alarm in known_alarms(rig.log)] == ["none: guard.remedy is off"]
    assert rig.learn.progress.epoch == 1
    assert marks[0] == ""
    assert marks[-1] == known_alarms(rig.log)[0].id


def test_while_gradients_are_far_too_long_neither_updates_nor_versions_may_be_served(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    assert rig.learn._guard
    norms, visits = rig.learn._guard._monitors.norms, play(SCENARIOS[0], seed=1, pace=2.0, calm=2.0, length=0.0)
    for opened in (None, ("gradient_norm", "orderer"), None):
        norms._open = opened
        rig.send([event for _, events in islice(visits, 40) for event in events])
        rig.learn.save()
        rig.learn._keeper.wait()
    told = [decode_update(value or b"").refused for value in rig.log.read(MODEL_UPDATES, 0, 0, 100).values]
    versions = [one.manifest.refused for one in listing.listing(rig.settings.checkpoints) if one.manifest]

    assert [bool(refused) for refused in versions] == [False, True, False]
    assert versions[1] == "gradients are far longer than they ever were: orderer"
    assert versions[1] in told
    assert told[-1] == ""


def test_an_alarm_that_was_lost_when_the_process_died_behind_its_remedy_is_told_after_the_restart(
    tmp_path: Path,
) -> None:
    rig = Rig(tmp_path)
    rig.log.append(CONTROL, 0, [(None, encode_order(RollbackOrder("000001-000000001", None, "silence-x-0.7")))])
    rig.log.append(CONTROL, 0, [(None, encode_order(RollbackOrder("000001-000000001", None, "by hand")))])
    for _ in range(2):
        restart(rig)

    assert [alarm.id for alarm in known_alarms(rig.log)] == ["silence-x-0.7"]
