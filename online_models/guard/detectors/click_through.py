"""What becomes of the slates that each version made: the newest beside those before them, by a sequential test."""

import math
from collections import deque
from typing import Literal

import numpy as np

from online_models import metrics
from online_models.guard.findings import Finding
from online_models.guard.reference_model import ReferencePredictions
from stream.ids import hash_id
from stream.records.batches import ExampleBatch, Kind, flatten_ragged

_MIN_REFERENCE_SLATES = 1_000  # slates before anything is judged
_REFERENCE_LAG_SLATES = 1_000  # slates by which the reference is behind what is judged
_SUSPICION_LOG_EVIDENCE = 3.0  # log of the evidence from which on the reference waits for more
_DECAY_SLATES = 5_000.0  # slates over which the reference forgets
_SLACK = 0.05  # part by which click-through may fall without a word
_BETS = np.array([0.85, 0.7, 0.5])  # of what is promised: what each bets on
_AVERAGE_RUN_LENGTH = 1e6  # slates between false alarms, divided by those that are put up with in a day
_MAX_VERSIONS = 32_768  # that are known by name


class SlateCounts:
    """Slates, how many of them something was taken from, and how many by an older version's reckoning."""

    def __init__(self) -> None:
        self.slates = self.clicked = self.expected = 0.0

    def add(self, slates: float, clicked: float, expected: float) -> None:
        self.slates += slates
        self.clicked += clicked
        self.expected += expected

    def decay(self, factor: float) -> None:
        self.slates, self.clicked, self.expected = factor * self.slates, factor * self.clicked, factor * self.expected


class RateDropTest:
    """Bets that a rate has fallen below what is promised: an e-detector (Shin, Ramdas and Rinaldo 2022, section 3).

    If it has not, no bet gains anything on average, whenever one looks: the wealth of a bet that begins again whenever
    it has lost passes `patience` once in so many rows at most. Several bets share the odds.

    >>> has_dropped = RateDropTest(average_run_length=1000.0)
    >>> has_dropped.update(np.tile([1.0, 0, 0], 100), min_rate=0.3), has_dropped.update(np.zeros(60), min_rate=0.3)
    (False, True)
    """

    def __init__(self, average_run_length: float) -> None:
        self._threshold = math.log(average_run_length * _BETS.size)
        self.reset()

    def reset(self) -> None:
        self._log_wealth = np.zeros(_BETS.size)  # log
        self._bet_rows = np.zeros(_BETS.size, np.int64)  # rows since each bet began

    @property
    def log_evidence(self) -> float:
        """Log of what the best bet has made of 1, less its share of the odds."""
        return float(self._log_wealth.max()) - math.log(_BETS.size)

    @property
    def rows_since_change(self) -> int:
        """Rows since the fall began, as the best bet has it."""
        return int(self._bet_rows[self._log_wealth.argmax()])

    def update(self, clicked: np.ndarray, min_rate: float) -> bool:
        """Whether the rows, (n,) of 0 and 1, make it too unlikely that the rate is still what is promised."""
        bet_rates = _BETS * min_rate
        click_gain, no_click_gain = np.log(_BETS), np.log((1 - bet_rates) / (1 - min_rate))
        path = self._log_wealth + np.cumsum(np.where(clicked[:, None] > 0, click_gain, no_click_gain), axis=0)
        lowest = np.minimum(np.minimum.accumulate(path, axis=0), 0.0)
        wealth = path - lowest
        n = clicked.size
        for k in range(_BETS.size):
            resets = np.flatnonzero(wealth[:, k] == 0.0)
            self._bet_rows[k] = n - 1 - resets[-1] if resets.size else self._bet_rows[k] + n
        self._log_wealth = wealth[-1]
        return bool(self._log_wealth.max() > self._threshold)


class ClickThroughDetector:
    """Compares slates of the latest versions with those of the versions before.

    When fewer of them are answered it asks an older version: if that foresaw it, the latest versions choose worse, and
    what taught them is undone; if it expected as much as ever, the world has changed, and is followed.
    """

    def __init__(self, false_alarms: float) -> None:
        self._reference = SlateCounts()
        self._latest: deque[tuple[bool, float, int, int]] = deque()  # taken, expected, key of the version, event time
        self._drop_test = RateDropTest(_AVERAGE_RUN_LENGTH / false_alarms)
        self._version_offsets: dict[int, tuple[str, dict[int, int]]] = {}  # name and offsets of a version, by its key

    def update(
        self,
        batch: ExampleBatch,
        is_new: np.ndarray,
        predictions: ReferencePredictions | None,
        version: str,
        offsets: dict[int, int],
    ) -> list[Finding]:
        """Take note of the slates that a step closed, and of the version that it led to with what taught it."""
        findings = self._test_slates(batch, is_new, predictions) if predictions else []
        self._version_offsets[hash_id(version)] = version, dict(offsets)
        while len(self._version_offsets) > _MAX_VERSIONS:
            del self._version_offsets[next(iter(self._version_offsets))]
        return findings

    def reset(self) -> None:
        """The learner has gone back: what was shown by versions that are no more is not judged."""
        self._latest.clear()
        self._version_offsets.clear()
        self._drop_test.reset()

    def _test_slates(self, batch: ExampleBatch, is_new: np.ndarray, predictions: ReferencePredictions) -> list[Finding]:
        rows = np.flatnonzero(batch.kind == Kind.closed)
        flat, start = flatten_ragged(batch.lists.start, rows)
        is_known = np.fromiter(
            (key in self._version_offsets for key in batch.version[rows].tolist()), np.bool_, rows.size
        )
        is_usable = is_new[rows] & is_known & (np.diff(start) > 0)
        if not is_usable.any():
            return []
        label = batch.lists.label[flat]
        cum_log_miss = np.concatenate([[0.0], np.cumsum(np.log1p(-predictions.probability))])
        cum_clicks = np.concatenate([[0.0], np.cumsum(label > 0)])
        expected = -np.expm1(cum_log_miss[start[1:]] - cum_log_miss[start[:-1]])[is_usable]
        clicked = (cum_clicks[start[1:]] > cum_clicks[start[:-1]])[is_usable]
        has_dropped = self._update_test(clicked)
        columns = batch.version[rows][is_usable].tolist(), batch.queries.ts[rows][is_usable].tolist()
        self._latest.extend(zip(clicked.tolist(), expected.tolist(), *columns, strict=True))
        if has_dropped:
            finding = self._make_finding()
            self._restart()
            return [finding] if finding else []
        while len(self._latest) > (
            _REFERENCE_LAG_SLATES
            if self._drop_test.log_evidence < _SUSPICION_LOG_EVIDENCE
            else 5 * _REFERENCE_LAG_SLATES
        ):
            oldest = self._latest.popleft()
            self._reference.decay(1 - 1 / _DECAY_SLATES)
            self._reference.add(1.0, float(oldest[0]), oldest[1])
        return []

    def _update_test(self, clicked: np.ndarray) -> bool:
        n = self._reference.slates
        if n < _MIN_REFERENCE_SLATES:
            return False
        rate = self._reference.clicked / n
        min_rate = (1 - _SLACK) * rate - 2 * math.sqrt(rate * (1 - rate) / n)
        if min_rate < 1e-3:
            return False
        metrics.click_through_ratio.labels("before").set(rate)
        metrics.click_through_ratio.labels("latest").set(
            sum(is_clicked for is_clicked, *_ in self._latest) / max(1, len(self._latest))
        )
        has_dropped = self._drop_test.update(clicked.astype(float), min(min_rate, 0.99))
        metrics.click_through_drop_log_evidence.set(self._drop_test.log_evidence)
        return has_dropped

    def _make_finding(self) -> Finding | None:
        recent = list(self._latest)[-max(1, self._drop_test.rows_since_change) :]
        latest = SlateCounts()
        for clicked, expected, *_ in recent:
            latest.add(1.0, float(clicked), expected)
        reference = self._reference
        observed_ratio = latest.clicked / latest.slates / (reference.clicked / reference.slates)
        predicted_ratio = latest.expected / latest.slates / max(1e-9, reference.expected / reference.slates)
        version, first_offsets = self._version_offsets[recent[0][2]]
        change_ts = 0 if (is_ranking_worse := predicted_ratio < (1 + observed_ratio) / 2) else recent[0][3]
        kind: Literal["poison", "drift"] = "poison" if is_ranking_worse else "drift"
        reason = (
            "slates of the latest versions are answered less, as the version before them foresees"
            if is_ranking_worse
            else "slates are answered less, though the version before expects as much of them as ever"
        )
        evidence = {
            "reason": reason,
            "version": version,
            "slates": int(latest.slates),
            "rate": round(latest.clicked / latest.slates, 4),
            "rate_before": round(reference.clicked / reference.slates, 4),
            "predicted_ratio": round(predicted_ratio, 3),
        }
        return Finding(
            "service",
            kind,
            "click_through",
            "",
            evidence,
            first_offsets,
            needs_rollback=is_ranking_worse,
            change_ts=change_ts,
        )

    def _restart(self) -> None:
        self._reference = SlateCounts()
        self._latest.clear()
        self._drop_test.reset()
