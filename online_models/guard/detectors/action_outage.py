"""Detect an action type that stops while everything else continues, such as a broken button."""

from collections.abc import Sequence
from dataclasses import dataclass

from online_models.control import ActionReturns
from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, PauseUntil, deviation_evidence
from online_models.guard.robust_stats import Deviation, RateBaseline
from online_models.guard.settings import GuardRecord
from stream.records.batches import EventType

ActionKey = tuple[int, int]  # surface and type


@dataclass(frozen=True, slots=True)
class ActionOutageSettings(GuardRecord):
    min_expected: int = 30  # actions
    max_ratio: float = 0.1  # of observed to expected actions
    max_clock_ratio: float = 0.3  # the same, expected by the clock instead of by the other events
    slow_bins: int = 30  # of the second comparison, for rare actions
    max_outage_rate: float = 0.2  # relative to the expected actions, up to which earlier bins belong to the outage
    min_expected_to_end: int = 3  # actions
    end_ratio: float = 0.5


class ActionOutageDetector:
    """Compare the count of each (surface, type) of actions with the count of all other events.

    - Null hypothesis: the type's share among events is that of the baseline.
    - Statistic: `RateBaseline` deviation over 3 bins, and over 30 bins for rare types.
    - Threshold: z below -z, 30 or more actions expected, less than a tenth of them observed, and less than 0.3 of
      what the clock predicts.
    - An alarm means that this type is no longer recorded.
    """

    def __init__(self, z: float, settings: ActionOutageSettings | None = None) -> None:
        self._z = z
        self._settings = settings or ActionOutageSettings()
        self.reset()

    def reset(self) -> None:
        self._rates: dict[ActionKey, tuple[RateBaseline, RateBaseline]] = {}
        self._clock_rates: dict[ActionKey, RateBaseline] = {}  # per ms

    def update(self, bins: Sequence[Bin]) -> list[Finding]:
        current, findings = bins[-1], []
        for key in current.action_counts:
            slow = RateBaseline(WARMUP_BINS, recent_bins=self._settings.slow_bins)
            self._rates.setdefault(key, (RateBaseline(WARMUP_BINS), slow))
            self._clock_rates.setdefault(key, RateBaseline(WARMUP_BINS))
        for key, rates in self._rates.items():
            count, duration_ms = current.action_counts[key], max(1, current.end - current.start)
            deviations = [rate.update(count, _compute_exposure(current, key)) for rate in rates]
            outage = next((deviation for deviation in deviations if deviation and self._is_outage(deviation)), None)
            clock_deviation = self._clock_rates[key].update(count, duration_ms)
            # A flood of other events makes every type rare by comparison; an outage is rare by the clock as well.
            if outage and clock_deviation and clock_deviation.ratio < self._settings.max_clock_ratio:
                findings.append(self._make_finding(key, outage, bins))
        return findings

    def is_over(self, condition: ActionReturns, current: Bin) -> bool | None:
        """Return True if the actions have returned; None: too few events to say."""
        key = condition.surface, condition.event_type
        if key not in self._rates:
            return None
        deviation = self._rates[key][0].compare(current.action_counts[key], _compute_exposure(current, key))
        if deviation is None or deviation.expected < self._settings.min_expected_to_end:
            return None
        return deviation.ratio > self._settings.end_ratio

    def close_incident(self, condition: ActionReturns, is_new_baseline: bool) -> None:
        """Keep the outage out of the baseline, or start a new baseline if the outage is permanent."""
        key = condition.surface, condition.event_type
        baselines = [*self._rates.get(key, ())] + ([self._clock_rates[key]] if key in self._clock_rates else [])
        for baseline in baselines:
            baseline.reset() if is_new_baseline else baseline.discard_recent()

    def _is_outage(self, deviation: Deviation) -> bool:
        is_rare = deviation.expected >= self._settings.min_expected and deviation.ratio < self._settings.max_ratio
        return is_rare and deviation.z < -self._z

    def _make_finding(self, key: ActionKey, outage: Deviation, bins: Sequence[Bin]) -> Finding:
        surface, event_type = key[0], EventType(key[1]).name
        evidence = {
            "reason": f"no more {event_type} actions arrive, while other events continue",
            "type": event_type,
            "surface": f"{surface:016x}",
            **deviation_evidence(outage),
        }
        subject, first_offsets = f"{surface:016x}-{event_type}", self._first_outage_bin(key, outage, bins).first_offsets
        remedy = PauseUntil(ActionReturns(*key))
        return Finding("poison", "action_outage", subject, evidence, first_offsets, remedy)

    def _first_outage_bin(self, key: ActionKey, outage: Deviation, bins: Sequence[Bin]) -> Bin:
        exposure = sum(_compute_exposure(bin_, key) for bin_ in list(bins)[-self._settings.slow_bins :])
        max_rate = self._settings.max_outage_rate * outage.expected / max(1, exposure)
        i = len(bins) - 1
        while i > 0 and bins[i - 1].action_counts[key] <= max_rate * _compute_exposure(bins[i - 1], key):
            i -= 1
        return bins[i]


def _compute_exposure(bin_: Bin, key: ActionKey) -> float:
    """Count of all other events."""
    return bin_.impressions + bin_.actions - bin_.action_counts[key]
