"""Whether people's past still tells: what is tried, what is told, and what is left out for it."""

from pathlib import Path

import numpy as np
import pytest

from online_models.control import CheckpointCommand, RollbackCommand, TruncateHistoryCommand
from online_models.features.history_filter import FULL_HISTORY, NO_TRIAL, HistoryFilter, truncate_history
from online_models.guard.detectors.preference_shift import PreferenceShiftDetector
from online_models.progressive_predictions import PersonalizationGain, log_softmax_by_list
from stream.records.batches import Queries
from tests.support.events import START
from tests.support.faults import CrashInjector
from tests.support.learner_lab import Lab, differing, followed, lessons

SLATES = 50
NOW = 1_000_000


def slates(worth: float, tried: float, ts: int = NOW) -> PersonalizationGain:
    """Slates that promise 0.4 each."""
    one = np.ones(SLATES)
    return PersonalizationGain(np.arange(ts, ts + SLATES), worth * one, 0.4 * one, tried * one)


def calm() -> tuple[PreferenceShiftDetector, HistoryFilter]:
    tastes, past = PreferenceShiftDetector(false_alarms=1.0), HistoryFilter()
    for _ in range(20):
        assert tastes.update(slates(0.4, 0.0, ts=NOW - SLATES), past, {0: 7}) == []
    assert past.trial_start is NO_TRIAL
    return tastes, past


def test_a_past_that_misleads_is_left_out_from_when_it_began_to_and_only_once_that_is_seen_to_help() -> None:
    tastes, past = calm()

    assert tastes.update(slates(-0.1, 0.0), past, {0: 7}) == []
    assert past.trial_start == NOW
    [found] = tastes.update(slates(-0.1, 0.3, ts=NOW + 1000), past, {0: 7})
    assert (found.kind, found.detector, found.needs_rollback) == ("drift", "preference_shift", False)
    assert found.history_cut
    assert found.history_cut.start_ts == NOW
    assert found.history_cut.end_ts > NOW + 80_000_000


def test_a_past_that_tells_stays_however_little_it_was_worth_for_a_while() -> None:
    tastes, past = calm()
    tastes.update(slates(-0.1, 0.0), past, {0: 7})

    assert tastes.update(slates(0.4, -0.3), past, {0: 7}) == []
    assert past.trial_start is NO_TRIAL


@pytest.mark.parametrize(("told", "found"), [(False, 0), (True, 1)], ids=["by itself", "told that the world changed"])
def test_lower_odds_are_enough_where_another_detector_says_that_the_world_has_changed(told: bool, found: int) -> None:
    tastes, past = calm()
    tastes.update(slates(-0.1, 0.0), past, {0: 7})
    if told:
        tastes.suspect_change(NOW)

    assert len(tastes.update(slates(-0.1, 0.08), past, {0: 7})) == found


def test_what_was_left_out_in_vain_counts_again() -> None:
    tastes, past = calm()
    past.start_ts, past.end_ts = NOW, NOW + 1_000_000
    tastes.update(slates(0.4, 0.0), past, {0: 7})
    assert past.trial_start == FULL_HISTORY
    [found] = tastes.update(slates(0.4, 0.2), past, {0: 7})

    assert found.history_cut
    assert found.history_cut.start_ts == 0


def asked(*times: int) -> Queries:
    """Questions of people who did something at 10, 20 and 30."""
    n = len(times)
    nobody = np.zeros(n, np.int64)
    return Queries(
        ts=np.array(times), user=nobody.astype(np.uint64), surface=nobody.astype(np.uint64),
        context=np.zeros((n, 4), np.uint64), session_start=nobody, session_depth=nobody.astype(np.int32),
        rates=np.zeros((n, 9), np.float32), history_start=3 * np.arange(n + 1),
        history_item=np.tile(np.array([1, 2, 3], np.uint64), n), history_type=np.ones(3 * n, np.uint8),
        history_ts=np.tile([10, 20, 30], n), shown_start=np.zeros(n + 1, np.int64), shown_item=np.zeros(0, np.uint64),
    )  # fmt: skip


def test_histories_begin_where_the_past_does_for_as_long_as_that_lasts() -> None:
    cut = truncate_history(asked(40, 50, 60), start_ts=20, end_ts=60)

    assert cut.history_start.tolist() == [0, 2, 4, 7]
    assert cut.history_ts.tolist() == [20, 30, 20, 30, 10, 20, 30]
    assert truncate_history(asked(40), start_ts=0).history_ts.tolist() == [10, 20, 30]


def test_shares_of_a_list_are_a_softmax() -> None:
    shares = np.exp(log_softmax_by_list(np.array([0.0, np.log(3.0), 1.0, 1.0]), np.array([0, 2, 4])))

    assert shares == pytest.approx([0.25, 0.75, 0.5, 0.5])


FORGET = {
    (1, 2): TruncateHistoryCommand(START + 60_000, START + 10**9, "preference_shift-0.1"),
    (1, 3): CheckpointCommand(),
    (1, 5): TruncateHistoryCommand(START + 90_000, START + 10**9, "preference_shift-0.2"),
    (1, 6): CheckpointCommand(),
    (1, 8): RollbackCommand("000001-000000003", {"0": [(20, 60)]}),
    (2, 5): TruncateHistoryCommand(0, 0, "preference_shift-restored-0.3"),
}


def test_what_is_left_out_survives_crashes_and_rollbacks_and_the_journal_leads_to_the_same_bits(tmp_path: Path) -> None:
    blocks = lessons()
    plain = Lab(tmp_path / "plain", blocks, {(1, 3): CheckpointCommand()}).finish()
    calm = Lab(tmp_path / "calm", blocks, {at: order for at, order in FORGET.items() if at < (2, 0)}).finish()
    rough = Lab(tmp_path / "rough", blocks, FORGET, CrashInjector(*[11] * 20)).finish()
    progress = rough.start().progress

    assert (
        calm.start().model.history_filter.start_ts == START + 90_000
    )  # the rollback went back behind it, and it counts again
    assert rough.crashes > 4
    assert rough.start().model.history_filter.start_ts == 0
    assert differing(rough.bits, followed(rough, progress.epoch, progress.step)) == []
    assert {"slate_ranker.theta", "history_filter.truncation"} <= set(differing(calm.bits, plain.bits))


def test_a_trial_leaves_no_trace_in_what_is_learnt(tmp_path: Path) -> None:
    blocks = lessons()
    plain, tried = Lab(tmp_path / "plain", blocks).finish(), Lab(tmp_path / "tried", blocks)
    told = 0.0
    while tried.step():
        tried.start().model.history_filter.trial_start = START + 60_000
        told += np.abs(tried.start().model.personalization_gain.trial_gain).sum()

    assert told > 0
    assert differing(plain.bits, tried.bits) == []
