"""Detect a fall of click-through by model version, with a sequential test."""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from online_models import metrics
from online_models.guard.detector import TrainedStep
from online_models.guard.findings import Finding, FollowDrift, RollBack
from online_models.guard.reference_model import ReferencePredictions
from online_models.guard.settings import GuardRecord
from stream.ids import hash_id


@dataclass(frozen=True, slots=True)
class ClickThroughSettings(GuardRecord):
    min_reference_slates: int = 1_000
    reference_lag_slates: int = 1_000  # by which the reference trails the latest slates
    suspicion_log_evidence: float = 3.0  # from which on the reference waits, up to five times the lag
    decay_slates: float = 5_000.0  # over which the reference forgets
    tolerance_share: float = 0.05  # relative fall of click-through that is tolerated
    bets: tuple[float, ...] = (0.85, 0.7, 0.5)  # alternative rates, relative to the rate under test
    average_run_length: float = 1e6  # slates between false alarms, at one false alarm a day
    max_versions: int = 32_768  # known by name


class RateDropTest:
    """Sequential test of a falling rate: an e-detector (Shin, Ramdas, Rinaldo 2022, section 3).

    - Null hypothesis: the rate is at least `min_rate`.
    - Statistic: the wealth of bets on lower rates, each of which restarts at 1 whenever it has lost.
    - Threshold: the average run length times the number of bets, which share the odds.
    - An alarm means that the rate has fallen. Under the null hypothesis it comes at most once per average run length,
      however often one looks.

    >>> test = RateDropTest(average_run_length=1000.0)
    >>> test.update(np.tile([1.0, 0, 0], 100), min_rate=0.3), test.update(np.zeros(60), min_rate=0.3)
    (False, True)
    """

    def __init__(self, average_run_length: float, bets: tuple[float, ...] = ClickThroughSettings().bets) -> None:
        self._bets = np.array(bets)
        self._threshold = math.log(average_run_length * self._bets.size)
        self.reset()

    def reset(self) -> None:
        self._log_wealth = np.zeros(self._bets.size)
        self._bet_rows = np.zeros(self._bets.size, np.int64)  # since each bet restarted

    @property
    def log_evidence(self) -> float:
        """Log wealth of the best bet, corrected for the number of bets."""
        return float(self._log_wealth.max()) - math.log(self._bets.size)

    @property
    def rows_since_change(self) -> int:
        """Rows since the rate fell, as the best bet dates it."""
        return int(self._bet_rows[self._log_wealth.argmax()])

    def update(self, clicked: np.ndarray, min_rate: float) -> bool:
        """Add rows, (n,) of 0 and 1; return True if the null hypothesis is rejected."""
        bet_rates = self._bets * min_rate
        click_gain, no_click_gain = np.log(self._bets), np.log((1 - bet_rates) / (1 - min_rate))
        path = self._log_wealth + np.cumsum(np.where(clicked[:, None] > 0, click_gain, no_click_gain), axis=0)
        lowest = np.minimum(np.minimum.accumulate(path, axis=0), 0.0)
        wealth = path - lowest
        n = clicked.size
        for k in range(self._bets.size):
            restarts = np.flatnonzero(wealth[:, k] == 0.0)
            self._bet_rows[k] = n - 1 - restarts[-1] if restarts.size else self._bet_rows[k] + n
        self._log_wealth = wealth[-1]
        return bool(self._log_wealth.max() > self._threshold)


class SlateCounts:
    """Slates, how many were clicked, and how many clicks an older version expected."""

    def __init__(self) -> None:
        self.slates = self.clicked = self.expected = 0.0

    def add(self, slates: float, clicked: float, expected: float) -> None:
        self.slates += slates
        self.clicked += clicked
        self.expected += expected

    def decay(self, factor: float) -> None:
        self.slates, self.clicked, self.expected = factor * self.slates, factor * self.clicked, factor * self.expected


class _Slate(NamedTuple):
    is_clicked: bool
    expected: float  # probability of a click, by an older version
    version_key: int
    ts: int  # event time, ms


class ClickThroughDetector:
    """Compare the slates of the latest versions with those of the versions before.

    - Null hypothesis: the latest slates are clicked as often as the reference, less 5 %.
    - Statistic and threshold: those of `RateDropTest`, with an average run length of 1,000,000 slates.
    - An alarm means poison if an older version predicted the fall: the latest versions choose worse, and are undone.
      Otherwise it means drift: the older version expected as much as ever, so user behavior has changed.
    """

    def __init__(self, false_alarms: float, settings: ClickThroughSettings | None = None) -> None:
        self._settings = settings or ClickThroughSettings()
        self._reference = SlateCounts()
        self._latest: deque[_Slate] = deque()
        self._drop_test = RateDropTest(self._settings.average_run_length / false_alarms, self._settings.bets)
        self._version_offsets: dict[int, tuple[str, dict[int, int]]] = {}  # name and offsets of a version, by its key

    def update(self, step: TrainedStep) -> list[Finding]:
        """Add the slates that a step closed, and the version that it led to."""
        findings = self._test_slates(step, step.predictions) if step.predictions else []
        self._version_offsets[hash_id(step.version)] = step.version, dict(step.offsets)
        while len(self._version_offsets) > self._settings.max_versions:
            del self._version_offsets[next(iter(self._version_offsets))]
        return findings

    def reset(self) -> None:
        """Discard the slates of versions that a rollback undid; the reference is older and stays."""
        self._latest.clear()
        self._version_offsets.clear()
        self._drop_test.reset()

    def _test_slates(self, step: TrainedStep, predictions: ReferencePredictions) -> list[Finding]:
        batch, closed = step.rows.batch, step.result.closed.lists
        rows, start = closed.rows, closed.start
        versions = batch.version[rows]
        is_known = np.fromiter((key in self._version_offsets for key in versions.tolist()), np.bool_, rows.size)
        is_usable = step.rows.is_new[rows] & is_known & (closed.lengths > 0)
        if not is_usable.any():
            return []
        cum_log_miss = np.concatenate([[0.0], np.cumsum(np.log1p(-predictions.probability))])
        cum_clicks = np.concatenate([[0.0], np.cumsum(closed.labels > 0)])
        expected = -np.expm1(cum_log_miss[start[1:]] - cum_log_miss[start[:-1]])[is_usable]
        clicked = (cum_clicks[start[1:]] > cum_clicks[start[:-1]])[is_usable]
        has_dropped = self._update_test(clicked)
        columns = clicked, expected, versions[is_usable], batch.queries.ts[rows][is_usable]
        self._latest.extend(map(_Slate._make, zip(*(column.tolist() for column in columns), strict=True)))
        if has_dropped:
            finding = self._make_finding()
            self._restart()
            return [finding]
        self._move_to_reference()
        return []

    def _move_to_reference(self) -> None:
        is_suspicious = self._drop_test.log_evidence >= self._settings.suspicion_log_evidence
        max_latest = self._settings.reference_lag_slates * (5 if is_suspicious else 1)
        while len(self._latest) > max_latest:
            oldest = self._latest.popleft()
            self._reference.decay(1 - 1 / self._settings.decay_slates)
            self._reference.add(1.0, float(oldest.is_clicked), oldest.expected)

    def _update_test(self, clicked: np.ndarray) -> bool:
        n = self._reference.slates
        if n < self._settings.min_reference_slates:
            return False
        rate = self._reference.clicked / n
        min_rate = (1 - self._settings.tolerance_share) * rate - 2 * math.sqrt(rate * (1 - rate) / n)
        if min_rate < 1e-3:
            return False
        latest_rate = sum(slate.is_clicked for slate in self._latest) / max(1, len(self._latest))
        metrics.click_through_ratio.labels("before").set(rate)
        metrics.click_through_ratio.labels("latest").set(latest_rate)
        has_dropped = self._drop_test.update(clicked.astype(float), min(min_rate, 0.99))
        metrics.click_through_drop_log_evidence.set(self._drop_test.log_evidence)
        return has_dropped

    def _make_finding(self) -> Finding:
        slates = list(self._latest)[-max(1, self._drop_test.rows_since_change) :]
        latest, reference = SlateCounts(), self._reference
        for slate in slates:
            latest.add(1.0, float(slate.is_clicked), slate.expected)
        observed_ratio = latest.clicked / latest.slates / (reference.clicked / reference.slates)
        predicted_ratio = latest.expected / latest.slates / max(1e-9, reference.expected / reference.slates)
        version, first_offsets = self._version_offsets[slates[0].version_key]
        evidence = {
            "version": version,
            "slates": int(latest.slates),
            "rate": round(latest.clicked / latest.slates, 4),
            "rate_before": round(reference.clicked / reference.slates, 4),
            "predicted_ratio": round(predicted_ratio, 3),
        }
        if predicted_ratio < (1 + observed_ratio) / 2:
            reason = "slates of the latest versions are clicked less, as an older version predicts"
            return Finding("poison", "click_through", "", {"reason": reason, **evidence}, first_offsets, RollBack())
        reason = "slates are clicked less, although an older version predicts no fall"
        evidence, change_ts = {"reason": reason, **evidence}, slates[0].ts
        return Finding("drift", "click_through", "", evidence, first_offsets, FollowDrift(), change_ts)

    def _restart(self) -> None:
        self._reference = SlateCounts()
        self._latest.clear()
        self._drop_test.reset()
