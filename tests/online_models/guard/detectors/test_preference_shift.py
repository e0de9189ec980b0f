"""Preference shifts: trials of truncated histories, findings and their remedies."""

from pathlib import Path

import numpy as np
import pytest

from online_models.control import CheckpointCommand, RollbackCommand, TruncateHistoryCommand
from online_models.features.history_filter import FULL_HISTORY, NO_TRIAL, HistoryFilter, HistoryTruncation
from online_models.guard.detectors.preference_shift import PreferenceShiftDetector
from online_models.guard.findings import Finding, TruncateHistory
from online_models.progressive_predictions import PersonalizationGain
from online_models.rankers.list_softmax import log_softmax_by_list
from online_models.step_result import StepResult
from stream.clock import MINUTE_MS
from stream.records.batches import Queries
from tests.support.batches import make_batch, make_lists, make_queries
from tests.support.events import START
from tests.support.faults import CrashInjector
from tests.support.learner_lab import Lab, find_differences, make_blocks, read_bits, replay_bits, replay_journal
from tests.support.observations import trained_step

SLATES = 50
NOW = 1_000_000
BATCH = make_batch([], make_queries(0, [], np.zeros(0, np.int64)), make_lists([]), np.zeros(0, np.uint64))


class Trials:
    """A detector whose trial is that of the next step."""

    def __init__(self) -> None:
        self.has_excess_clicks, self.truncation = False, HistoryTruncation()
        self.detector = PreferenceShiftDetector(1.0, lambda current: self.has_excess_clicks)

    @property
    def trial_start(self) -> int | None:
        return self.detector.trial_start

    def update(self, gain: float, trial_gain: float, ts: int = NOW) -> list[Finding]:
        """Add slates with an expected gain of 0.4 each."""
        actual, expected, trial = (np.full(SLATES, value) for value in (gain, 0.4, trial_gain))
        gains = PersonalizationGain(np.arange(ts, ts + SLATES), actual, expected, trial, self.trial_start)
        result = StepResult(BATCH, gain=gains, truncation=self.truncation)
        return self.detector.update(trained_step(result, offsets={0: 7}))


@pytest.fixture
def trials() -> Trials:
    """A detector whose baseline is histories that gain what they promise."""
    trials = Trials()
    for _ in range(20):
        assert trials.update(0.4, 0.0, ts=NOW - SLATES) == []
    assert trials.trial_start is NO_TRIAL
    return trials


def test_misleading_history_is_truncated_once_a_trial_has_helped(trials: Trials) -> None:
    assert trials.update(-0.1, 0.0) == []
    assert trials.trial_start == NOW
    [finding] = trials.update(-0.1, 0.3, ts=NOW + 1000)
    assert (finding.kind, finding.detector) == ("drift", "preference_shift")
    assert isinstance(finding.remedy, TruncateHistory)
    assert finding.remedy.start_ts == NOW
    assert finding.remedy.end_ts > NOW + 80_000_000


def test_useful_history_survives_a_trial(trials: Trials) -> None:
    trials.update(-0.1, 0.0)

    assert trials.update(0.4, -0.3) == []
    assert trials.trial_start is NO_TRIAL


@pytest.mark.parametrize(("is_suspected", "count"), [(False, 0), (True, 1)], ids=["alone", "suspected"])
def test_lower_odds_suffice_if_another_detector_reports_drift(is_suspected: bool, count: int, trials: Trials) -> None:
    trials.update(-0.1, 0.0)
    if is_suspected:
        trials.detector.suspect_change(NOW)

    assert len(trials.update(-0.1, 0.08)) == count


def test_excess_clicks_are_no_evidence(trials: Trials) -> None:
    trials.has_excess_clicks = True

    assert trials.update(-0.1, 0.0) == []
    assert trials.trial_start is NO_TRIAL


def test_truncated_history_returns_if_it_predicts_better(trials: Trials) -> None:
    trials.truncation = HistoryTruncation(NOW, NOW + 1_000_000)
    trials.update(0.4, 0.0)
    assert trials.trial_start == FULL_HISTORY
    [finding] = trials.update(0.4, 0.2)

    assert finding.subject == "restored"
    assert finding.remedy == TruncateHistory(0, 0)


def queries_at(*times: int) -> Queries:
    """Queries of users who acted at 10, 20 and 30."""
    n = len(times)
    zeros = np.zeros(n, np.int64)
    return Queries(
        ts=np.array(times), user=zeros.astype(np.uint64), surface=zeros.astype(np.uint64),
        context=np.zeros((n, 4), np.uint64), session_start=zeros, session_depth=zeros.astype(np.int32),
        rates=np.zeros((n, 9), np.float32), history_start=3 * np.arange(n + 1),
        history_item=np.tile(np.array([1, 2, 3], np.uint64), n), history_type=np.ones(3 * n, np.uint8),
        history_ts=np.tile([10, 20, 30], n), shown_start=np.zeros(n + 1, np.int64), shown_item=np.zeros(0, np.uint64),
    )  # fmt: skip


def test_histories_start_at_the_truncation_until_it_ends() -> None:
    history_filter = HistoryFilter()
    history_filter.truncation = HistoryTruncation(start_ts=20, end_ts=60)
    truncated = history_filter.filter_queries(queries_at(40, 50, 60))

    assert truncated.history_start.tolist() == [0, 2, 4, 7]
    assert truncated.history_ts.tolist() == [20, 30, 20, 30, 10, 20, 30]
    assert HistoryFilter().filter_queries(queries_at(40)).history_ts.tolist() == [10, 20, 30]


def test_probabilities_of_a_list_are_a_softmax() -> None:
    probabilities = np.exp(log_softmax_by_list(np.array([0.0, np.log(3.0), 1.0, 1.0]), np.array([0, 2, 4])))

    assert probabilities == pytest.approx([0.25, 0.75, 0.5, 0.5])


COMMANDS = {
    (1, 2): TruncateHistoryCommand(START + MINUTE_MS, START + 10**9, "preference_shift-0.1"),
    (1, 3): CheckpointCommand(),
    (1, 5): TruncateHistoryCommand(START + 90_000, START + 10**9, "preference_shift-0.2"),
    (1, 6): CheckpointCommand(),
    (1, 8): RollbackCommand("000001-000000003", {"0": [(20, 60)]}),
    (2, 5): TruncateHistoryCommand(0, 0, "preference_shift-restored-0.3"),
}


def test_truncations_survive_crashes_and_rollbacks_bit_for_bit(tmp_path: Path) -> None:
    blocks = make_blocks()
    plain = Lab(tmp_path / "plain", blocks, {(1, 3): CheckpointCommand()}).finish()
    first_epoch = {step: command for step, command in COMMANDS.items() if step < (2, 0)}
    smooth = Lab(tmp_path / "smooth", blocks, first_epoch).finish()
    rough = Lab(tmp_path / "rough", blocks, COMMANDS, CrashInjector(*[11] * 20)).finish()
    progress = rough.start().progress

    # The rollback goes back behind the second truncation, which is then applied again.
    assert smooth.start().model.history_filter.truncation.start_ts == START + 90_000
    assert rough.crashes > 4
    assert rough.start().model.history_filter.truncation.start_ts == 0
    assert find_differences(rough.bits, replay_bits(rough, progress.epoch, progress.step)) == []
    assert {"slate_ranker.theta", "history_filter.truncation"} <= set(find_differences(smooth.bits, plain.bits))


def test_trials_change_no_bit_of_the_model(tmp_path: Path) -> None:
    plain = Lab(tmp_path, make_blocks()).finish()
    progress = plain.start().progress
    model, results = replay_journal(plain, progress.epoch, progress.step, trial_start=START + MINUTE_MS)

    assert sum(np.abs(result.gain.trial_gain).sum() for result in results) > 0
    assert find_differences(plain.bits, read_bits(model.state())) == []
