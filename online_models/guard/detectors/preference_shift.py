"""Detect a preference shift: user histories no longer help to predict clicks."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from online_models import metrics
from online_models.features.history_filter import FULL_HISTORY, NO_TRIAL, HistoryTruncation
from online_models.guard.bins import Bin
from online_models.guard.detector import TrainedStep
from online_models.guard.findings import Finding, TruncateHistory
from online_models.guard.settings import GuardRecord
from online_models.progressive_predictions import PersonalizationGain
from stream.clock import DAY_MS


@dataclass(frozen=True, slots=True)
class PreferenceShiftSettings(GuardRecord):
    trial_threshold: float = 5.0  # log odds that histories have lost half of their value, which start a trial
    trials_per_day: float = 2_000.0  # at most
    confirming_odds: float = 20.0  # that are enough if another detector reports drift
    max_log_odds_against: float = 4.0  # at which a trial ends
    max_trial_slates: int = 500  # after which a trial ends undecided
    decay: float = 0.9995  # of the mean gain, per slate
    initial_gain: float = 20.0  # sum over earlier slates, before there are any
    truncation_ms: int = DAY_MS  # event time for which old history is ignored


class PreferenceShiftDetector:
    """Two tests, of which the cheap first one starts the second.

    - Null hypothesis: the full history predicts clicks at least as well as the history since a change.
    - Statistic: log odds of the clicks with the truncated history against the full history, slate by slate.
    - Threshold: log(2,000 / false alarms a day); log 20 if another detector reports drift.
    - An alarm means that preferences have changed. The remedy, to ignore older history, has already helped.

    The first test adds up the gain of knowing the user, slate by slate, against half of the usual gain (Page 1954).
    If it falls short for a while, a trial begins: each slate is predicted twice, with the full history and with what
    came since. The odds are a bet that gains nothing on average under the null hypothesis, however often one looks
    (Ville's inequality). While history is truncated, the trial tests the full history.
    """

    def __init__(
        self,
        false_alarms: float,
        has_excess_clicks: Callable[[Bin | None], bool] = lambda current: False,
        settings: PreferenceShiftSettings | None = None,
    ) -> None:
        self._settings = settings or PreferenceShiftSettings()
        self._has_excess_clicks = has_excess_clicks
        self._alarm_threshold = math.log(self._settings.trials_per_day / false_alarms)
        self._mean_gain = self._mean_expected_gain = self._settings.initial_gain  # decaying sums over slates
        self.reset()

    def reset(self) -> None:
        """End the trial."""
        self._shortfall = 0.0  # of recent gains below half of the usual gain
        self._shortfall_start_ts = 0
        self._begin_trial(NO_TRIAL)

    @property
    def trial_start(self) -> int | None:
        """Start of the histories on trial in the next step, ms; None: there is no trial."""
        return self._trial_start

    def suspect_change(self, change_ts: int) -> None:
        """Start a trial at the event time, in ms, of a change that another detector reports."""
        if not self._trial_start:
            self._begin_trial(change_ts)
        self._threshold = min(self._alarm_threshold, math.log(self._settings.confirming_odds))

    def update(self, step: TrainedStep) -> list[Finding]:
        """Add the evidence of a step; excess clicks are ignored, as they express no preferences."""
        gains, truncation = step.result.gain, step.result.truncation
        if len(gains) == 0 or self._has_excess_clicks(step.bin):
            return []
        now, findings = int(gains.ts[-1]), []
        self._add_evidence(gains)
        if self._evidence >= self._threshold:
            findings = [self._make_finding(now, step.offsets)]
            self.reset()
        else:
            self._update_trial(truncation, now)
        metrics.preference_shift_log_odds.set(self._evidence)
        metrics.history_truncated.set(truncation.is_active(now))
        return findings

    def _begin_trial(self, trial_start: int | None) -> None:
        self._trial_start, self._threshold = trial_start, self._alarm_threshold
        self._evidence, self._slates = 0.0, 0

    def _add_evidence(self, gains: PersonalizationGain) -> None:
        if gains.trial_start is not NO_TRIAL and gains.trial_start == self._trial_start:
            self._evidence += float(gains.trial_gain.sum())
            self._slates += len(gains)
        decay, columns = self._settings.decay, (gains.ts.tolist(), gains.gain.tolist(), gains.expected_gain.tolist())
        for ts, gain, expected_gain in zip(*columns, strict=True):
            gain_ratio = min(1.0, max(0.0, self._mean_gain / self._mean_expected_gain))
            self._mean_gain = decay * self._mean_gain + gain
            self._mean_expected_gain = decay * self._mean_expected_gain + expected_gain
            self._shortfall = max(0.0, self._shortfall + 0.5 * gain_ratio * expected_gain - gain)
            self._shortfall_start_ts = (self._shortfall_start_ts or ts) if self._shortfall else 0

    def _update_trial(self, truncation: HistoryTruncation, now: int) -> None:
        """Begin or end a trial; while history is truncated, the full history is on trial by default."""
        if self._trial_start:
            is_open = self._evidence > -self._settings.max_log_odds_against
            if is_open and self._slates < self._settings.max_trial_slates:
                return
            self._shortfall = 0.0
        default_trial = FULL_HISTORY if truncation.is_active(now) else NO_TRIAL
        if self._shortfall >= self._settings.trial_threshold:
            self._begin_trial(self._shortfall_start_ts)
        elif self._trial_start != default_trial:
            self._begin_trial(default_trial)
        self._evidence = max(0.0, self._evidence)  # whether the full history is useful again is tested all the time

    def _make_finding(self, now: int, first_offsets: dict[int, int]) -> Finding:
        start_ts, odds = self._trial_start or 0, {"log_odds": round(self._evidence, 1)}
        if not start_ts:
            evidence = {"reason": "the full history predicts clicks better again", **odds}
            remedy = TruncateHistory(0, 0)
            return Finding("drift", "preference_shift", "restored", evidence, first_offsets, remedy)
        evidence = {
            "reason": "clicks are predicted better without older history: preferences have changed",
            "changed_at": datetime.fromtimestamp(start_ts / 1000, UTC).isoformat(timespec="seconds"),
            **odds,
        }
        remedy = TruncateHistory(start_ts, now + self._settings.truncation_ms)
        return Finding("drift", "preference_shift", "", evidence, first_offsets, remedy)
