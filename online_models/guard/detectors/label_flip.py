"""Slates that are answered more often, and worse than foretold: labels that mean nothing, told at once."""

from collections import Counter, deque
from dataclasses import replace

import numpy as np

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, deviation_evidence
from online_models.guard.robust_stats import Deviation, RateBaseline

_MAX_LOOKBACK_BINS = 15  # bins at most before it is sure
_END_RATIO = 1.3  # of what is usual, below which it is over, or
_END_EXCESS_SHARE = 1 / 3  # of what was above it, as a rule, while it lasted
_MIN_EXPECTED_CLICKS = 3.0  # answers that are expected of a bin, for it to tell
_WINDOW_BINS = 5  # bins that are looked at for how well answers are foretold
_MIN_CLICKS = 30  # answers that tell
_MIN_RATE_RATIO = 1.5  # of the usual answers, from which on they are no evidence of what people like
_RANK_STD = 12**-0.5  # standard deviation of a place between 0 and 1, at most if all are as likely
_MAX_TOP_ITEM_SHARE = 0.2  # share of the answers from which on an item is what they are about
_PATIENCE_MS = 6 * 3_600_000  # event time after which what lasts is the new usual


class LabelFlipDetector:
    """Compares answers with slates shown, and the places of what is taken, as predicted, with those of before.

    More of one and less of the other is no change of tastes, which takes elsewhere what it gives here, and no sale,
    which people answer as predicted, but more.
    """

    def __init__(self, z: float) -> None:
        self._z = z
        self._click_rate, self._rank_deficit = (
            RateBaseline(WARMUP_BINS),
            RateBaseline(WARMUP_BINS),
        )  # answers by slate; how far below the best they are, by answer
        self._paused_ratios: list[float] = []  # how much too often slates were answered, by bin, while learning is held
        self._fired_span = 0, 0  # event time of the first of these that hang together, and of the last, ms

    def update(self, bins: deque[Bin]) -> list[Finding]:
        current = bins[-1]
        if current.is_stale:
            return []
        click_deviation, rank_deviation = (
            self._click_rate.update(current.slate_clicks, current.impressions),
            self._rank_deficit.update(current.slate_clicks - current.click_rank_sum, current.slate_clicks),
        )
        if click_deviation is None or rank_deviation is None or not self._is_excess(click_deviation):
            return []
        expected_clicks = rank_deviation.expected / self._rank_deficit.baseline_rate  # answers
        rank_drop_z = (rank_deviation.observed - rank_deviation.expected) / (
            _RANK_STD * np.sqrt(max(expected_clicks, 1.0))
        )
        clicks_by_item = sum((bin_.clicks_by_item for bin_ in list(bins)[-3:]), start=Counter[int]())
        top_share = max(clicks_by_item.values(), default=0) / max(1, clicks_by_item.total())
        if rank_drop_z < self._z or click_deviation.observed < _MIN_CLICKS or top_share >= _MAX_TOP_ITEM_SHARE:
            return []
        evidence = {
            "reason": "slates are answered more often, and worse than foretold, all over the catalogue",
            **deviation_evidence(click_deviation),
            "rank_deficit": round(rank_deviation.observed / expected_clicks, 3),
            "rank_deficit_before": round(self._rank_deficit.baseline_rate, 3),
            "rank_drop_z": round(float(rank_drop_z), 1),
            "top_item_share": round(top_share, 3),
        }
        first_offsets, baseline = (
            bins[-self._count_flipped_bins(bins)].first_clicked_offsets,
            self._click_rate.baseline_rate,
        )
        self._keep_baseline(current)
        finding = Finding(
            "learner", "poison", "label_flip", "", evidence, first_offsets, needs_rollback=True, end_condition=baseline
        )
        return [replace(finding, slates_only=True, is_impersonated=True)]

    def _is_excess(self, click_deviation: Deviation) -> bool:
        return click_deviation.z > self._z and click_deviation.ratio > _MIN_RATE_RATIO

    def _count_flipped_bins(self, bins: deque[Bin]) -> int:
        """How many of the last bins are flipped: as many as together exceed what is usual the most (Page 1954)."""
        recent, baseline = list(bins)[-_MAX_LOOKBACK_BINS:], self._click_rate.baseline_rate
        excess = np.array([bin_.slate_clicks - _END_RATIO * baseline * bin_.impressions for bin_ in recent])[
            ::-1
        ].cumsum()
        return int(excess.argmax()) + 1

    def _keep_baseline(self, current: Bin) -> None:
        """What came before stays the usual, so that what goes on is found again; but not for ever."""
        first_ts, last_ts = self._fired_span
        self._fired_span = first_ts if current.start < last_ts + _PATIENCE_MS else current.start, current.end
        for rate in (self._click_rate, self._rank_deficit):
            rate.discard_recent() if current.end < self._fired_span[0] + _PATIENCE_MS else rate.reset()

    def has_excess_clicks(self, current: Bin | None) -> bool:
        """Whether slates are answered so often, in a bin that need not be full, that answers tell nothing of tastes."""
        click_deviation = self._click_rate.compare(current.slate_clicks, current.impressions) if current else None
        return (
            click_deviation is not None and click_deviation.ratio > _MIN_RATE_RATIO and click_deviation.z > self._z / 2
        )

    def is_over(self, baseline: float, current: Bin) -> bool | None:
        """Whether most of what was too much is gone; `usual`: answers a slate. None: too little happened to say."""
        if baseline * current.impressions < _MIN_EXPECTED_CLICKS:
            return None
        self._paused_ratios.append(current.slate_clicks / (baseline * current.impressions))
        return self._paused_ratios[-1] < max(
            _END_RATIO, 1 + _END_EXCESS_SHARE * (float(np.median(self._paused_ratios)) - 1)
        )

    def close_incident(self, is_new_baseline: bool) -> None:
        """It is over, or is the new usual."""
        self._paused_ratios.clear()
        if is_new_baseline:
            self._click_rate.reset()
            self._rank_deficit.reset()
