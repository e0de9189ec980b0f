"""Detect label flips: click-through rises while clicked items rank lower than predicted."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from online_models.control import ClickRateReturns
from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, PauseUntil, deviation_evidence
from online_models.guard.robust_stats import Deviation, RateBaseline
from online_models.guard.settings import GuardRecord
from stream.clock import HOUR_MS

_RANK_STD = 12**-0.5  # of a relative rank between 0 and 1 if all ranks are equally likely; others vary less


@dataclass(frozen=True, slots=True)
class LabelFlipSettings(GuardRecord):
    min_rate_ratio: float = 1.5  # of observed to expected clicks
    min_clicks: int = 30
    max_top_item_share: float = 0.2  # of the clicks, above which one item explains them
    top_item_bins: int = 3
    max_lookback_bins: int = 15  # that a flip may have lasted before it is found
    end_ratio: float = 1.3  # to the baseline click rate, below which a flip is over,
    end_excess_share: float = 1 / 3  # or below this share of its own median excess
    min_expected_to_end: float = 3.0  # clicks in a bin
    patience_ms: int = 6 * HOUR_MS  # event time after which a flip becomes the baseline


class LabelFlipDetector:
    """Compare clicks per slate, and the predicted rank of clicked items, with earlier bins.

    - Null hypothesis: clicks per slate and the mean predicted rank of clicked items are those of the baseline.
    - Statistic: `RateBaseline` deviation of clicks per slate; z-score of the rank deficit (how far below the best
      prediction the clicked items rank) under independent ranks.
    - Threshold: both above z, 1.5 times the expected clicks, 30 or more clicks, and no item with a fifth of them.
    - An alarm means that clicks do not express preferences: somebody clicks at random, or labels are wrong.

    A preference shift clicks elsewhere, but not more. A sale clicks more, but as predicted.
    """

    def __init__(self, z: float, settings: LabelFlipSettings | None = None) -> None:
        self._z = z
        self._settings = settings or LabelFlipSettings()
        self._click_rate = RateBaseline(WARMUP_BINS)  # clicks per slate
        self._rank_deficit = RateBaseline(WARMUP_BINS)  # distance from the best prediction, per click
        self._paused_ratios: list[float] = []  # observed to expected clicks of each bin during the pause
        self._fired_span = 0, 0  # event times of the first and last finding of one flip, ms

    def reset(self) -> None:
        self._click_rate.reset()
        self._rank_deficit.reset()

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        current = bins[-1]
        if current.is_stale:
            return []
        click_deviation = self._click_rate.update(current.slate_clicks, current.impressions)
        rank_deficit = current.slate_clicks - current.click_rank_sum
        rank_deviation = self._rank_deficit.update(rank_deficit, current.slate_clicks)
        if click_deviation is None or rank_deviation is None or not self._is_excess(click_deviation, self._z):
            return []
        expected_clicks = rank_deviation.expected / self._rank_deficit.baseline_rate
        rank_std = _RANK_STD * np.sqrt(max(expected_clicks, 1.0))
        rank_drop_z = float((rank_deviation.observed - rank_deviation.expected) / rank_std)
        top_share = self._top_item_share(bins)
        if rank_drop_z < self._z or click_deviation.observed < self._settings.min_clicks:
            return []
        if top_share >= self._settings.max_top_item_share:
            return []
        evidence = {
            "reason": "slates are clicked more often, and lower in the predicted order, all over the catalog",
            **deviation_evidence(click_deviation),
            "rank_deficit": round(rank_deviation.observed / expected_clicks, 3),
            "rank_deficit_before": round(self._rank_deficit.baseline_rate, 3),
            "rank_drop_z": round(rank_drop_z, 1),
            "top_item_share": round(top_share, 3),
        }
        first_offsets = bins[-self._count_flipped_bins(bins)].first_clicked_offsets
        remedy = PauseUntil(ClickRateReturns(self._click_rate.baseline_rate))
        self._keep_baseline(current)
        return [Finding("poison", "label_flip", "", evidence, first_offsets, remedy)]

    def has_excess_clicks(self, current: Bin | None) -> bool:
        """Return True if clicks are too frequent to express preferences; the bin may be open."""
        deviation = self._click_rate.compare(current.slate_clicks, current.impressions) if current else None
        return deviation is not None and self._is_excess(deviation, self._z / 2)

    def is_over(self, condition: ClickRateReturns, current: Bin) -> bool | None:
        """Return True if most of the excess clicks are gone; None: too few impressions to say."""
        expected_clicks = condition.baseline * current.impressions
        if expected_clicks < self._settings.min_expected_to_end:
            return None
        self._paused_ratios.append(current.slate_clicks / expected_clicks)
        median_excess = float(np.median(self._paused_ratios)) - 1
        end_ratio = max(self._settings.end_ratio, 1 + self._settings.end_excess_share * median_excess)
        return self._paused_ratios[-1] < end_ratio

    def close_incident(self, is_new_baseline: bool) -> None:
        """End the flip; start a new baseline if it is permanent."""
        self._paused_ratios.clear()
        if is_new_baseline:
            self.reset()

    def _is_excess(self, deviation: Deviation, z: float) -> bool:
        return deviation.z > z and deviation.ratio > self._settings.min_rate_ratio

    def _top_item_share(self, bins: Sequence[Bin]) -> float:
        """Share of recent clicks that the most clicked item has."""
        recent = list(bins)[-self._settings.top_item_bins :]
        clicks = sum((bin_.clicks_by_item for bin_ in recent), start=Counter[int]())
        return max(clicks.values(), default=0) / max(1, clicks.total())

    def _count_flipped_bins(self, bins: Sequence[Bin]) -> int:
        """Number of last bins that together exceed the expected clicks the most (Page 1954)."""
        rate = self._settings.end_ratio * self._click_rate.baseline_rate
        recent = list(bins)[-self._settings.max_lookback_bins :]
        excess = np.array([bin_.slate_clicks - rate * bin_.impressions for bin_ in recent])[::-1].cumsum()
        return int(excess.argmax()) + 1

    def _keep_baseline(self, current: Bin) -> None:
        """Keep the flip out of the baseline, so that it is found again, until patience runs out."""
        first_ts, last_ts = self._fired_span
        patience_ms = self._settings.patience_ms
        self._fired_span = first_ts if current.start < last_ts + patience_ms else current.start, current.end
        for rate in (self._click_rate, self._rank_deficit):
            rate.discard_recent() if current.end < self._fired_span[0] + patience_ms else rate.reset()
