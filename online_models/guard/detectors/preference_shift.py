"""Whether people's own past still tells what they will take: if it misleads, tastes have changed."""

import math
from datetime import UTC, datetime

from online_models import metrics
from online_models.features.history_filter import FULL_HISTORY, NO_TRIAL, HistoryFilter
from online_models.guard.findings import Finding, HistoryCut
from online_models.progressive_predictions import PersonalizationGain

_TRIAL_THRESHOLD = (
    5.0  # log of the odds that the past has lost half of its worth, from which on it is tried to leave it out
)
_TRIALS_PER_DAY = 2_000.0  # a day at most
_CONFIRMING_ODDS = 20.0  # that are enough where something else says that the world has changed
_GIVE_UP_LOG_ODDS = -4.0  # log of the odds at which a trial is over
_MAX_TRIAL_SLATES = 500  # slates after which it is over, with nothing said
_DECAY = 0.9995  # of the usual worth, with each slate
_TRUNCATION_MS = 86_400_000  # ms of event time for which the past is left out


class PreferenceShiftDetector:
    """Two tests, the first of which is cheap and starts the second.

    The first adds up what it is worth to know the person, slate by slate, beside half of what it usually is
    (Page 1954): when it has fallen short for a while, a trial begins. In the trial everything is foretold twice, with
    the whole past and with what came since the doubt began. The odds of the two are a bet that gains nothing, whenever
    one looks, as long as the past tells (Ville's inequality): what wins against odds of `_TRIALS` to the false alarms
    that are put up with in a day is told, and is the remedy, which has been seen to help by then. Once it is carried
    out, the whole past is what is tried.
    """

    def __init__(self, false_alarms: float) -> None:
        self._alarm_threshold = math.log(_TRIALS_PER_DAY / false_alarms)
        self._mean_gain = self._mean_expected_gain = 20.0  # of late, and what was promised of it
        self.reset()

    def reset(self) -> None:
        self._shortfall, self._shortfall_start_ts = (
            0.0,
            0,
        )  # what the past lately fell short of half its worth, and since when
        self._begin_trial(NO_TRIAL)

    def _begin_trial(self, trial_start: int | None) -> None:
        self._trial_start, self._threshold = trial_start, self._alarm_threshold
        self._evidence, self._slates = 0.0, 0

    def suspect_change(self, change_ts: int) -> None:
        """Another detector says that the world has changed, at an event time in ms: try it."""
        if not self._trial_start:
            self._begin_trial(change_ts)
        self._threshold = min(self._alarm_threshold, math.log(_CONFIRMING_ODDS))

    def update(
        self, gains: PersonalizationGain, history_filter: HistoryFilter, first_offsets: dict[int, int]
    ) -> list[Finding]:
        """Take note of what a step foretold, and tell `past` what the next is to try; `first`: offsets by partition."""
        findings: list[Finding] = []
        if len(gains):
            now = int(gains.ts[-1])
            self._add_evidence(gains, history_filter)
            if self._evidence >= self._threshold:
                findings = [self._make_finding(now, first_offsets)]
                self.reset()
            else:
                self._update_trial(FULL_HISTORY if history_filter.is_truncated(now) else NO_TRIAL)
            metrics.preference_shift_log_odds.set(self._evidence)
            metrics.history_truncated.set(history_filter.is_truncated(now))
        history_filter.trial_start = self._trial_start
        return findings

    def _add_evidence(self, gains: PersonalizationGain, history_filter: HistoryFilter) -> None:
        if history_filter.trial_start is not NO_TRIAL and history_filter.trial_start == self._trial_start:
            self._evidence += float(gains.trial_gain.sum())
            self._slates += len(gains)
        columns = gains.ts.tolist(), gains.gain.tolist(), gains.expected_gain.tolist()
        for ts, gain, expected_gain in zip(*columns, strict=True):
            gain_ratio = min(1.0, max(0.0, self._mean_gain / self._mean_expected_gain))
            self._mean_gain = _DECAY * self._mean_gain + gain
            self._mean_expected_gain = _DECAY * self._mean_expected_gain + expected_gain
            self._shortfall = max(0.0, self._shortfall + 0.5 * gain_ratio * expected_gain - gain)
            self._shortfall_start_ts = (self._shortfall_start_ts or ts) if self._shortfall else 0

    def _update_trial(self, default_trial: int | None) -> None:
        """Begin or end a trial; `otherwise`: what is tried while there is no doubt."""
        if self._trial_start:
            if self._evidence > _GIVE_UP_LOG_ODDS and self._slates < _MAX_TRIAL_SLATES:
                return
            self._shortfall = 0.0
        if self._shortfall >= _TRIAL_THRESHOLD:
            self._begin_trial(self._shortfall_start_ts)
        elif self._trial_start != default_trial:
            self._begin_trial(default_trial)
        self._evidence = max(0.0, self._evidence)  # whether all counts again is asked all the time

    def _make_finding(self, now: int, first_offsets: dict[int, int]) -> Finding:
        start_ts = self._trial_start or 0
        odds = {"log_odds": round(self._evidence, 1)}
        if not start_ts:
            evidence = {"reason": "what people did before the change foretells again what they take", **odds}
            return Finding(
                "learner",
                "drift",
                "preference_shift",
                "restored",
                evidence,
                first_offsets,
                history_cut=HistoryCut(0, 0),
            )
        evidence = {
            "reason": "what people take is foretold better without what they did before: tastes have changed",
            "changed_at": datetime.fromtimestamp(start_ts / 1000, UTC).isoformat(timespec="seconds"),
            **odds,
        }
        return Finding(
            "learner",
            "drift",
            "preference_shift",
            "",
            evidence,
            first_offsets,
            history_cut=HistoryCut(start_ts, now + _TRUNCATION_MS),
        )
