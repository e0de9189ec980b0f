"""A kind of action that stops while everything else goes on: a broken button."""

from collections import deque

from online_models.guard.bins import Bin
from online_models.guard.findings import WARMUP_BINS, Finding, deviation_evidence
from online_models.guard.robust_stats import Deviation, RateBaseline
from stream.records.batches import EventType

ActionKey = tuple[int, int]  # surface and type of actions


class ActionOutageDetector:
    """Compares how often each kind of action comes with how much else happens."""

    def __init__(self, z: float) -> None:
        self._z = z
        self._rates: dict[ActionKey, tuple[RateBaseline, RateBaseline]] = {}
        self._clock_rates: dict[ActionKey, RateBaseline] = {}  # by the minute

    def update(self, bins: deque[Bin]) -> list[Finding]:
        current, findings = bins[-1], []
        for key in current.action_counts:
            self._rates.setdefault(key, (RateBaseline(WARMUP_BINS), RateBaseline(WARMUP_BINS, recent_bins=30)))
            self._clock_rates.setdefault(key, RateBaseline(WARMUP_BINS))
        for key, rates in self._rates.items():
            deviations = [rate.update(current.action_counts[key], _compute_exposure(current, key)) for rate in rates]
            deviation = next(
                (
                    deviation
                    for deviation in deviations
                    if deviation and deviation.expected >= 30 and deviation.ratio < 0.1 and deviation.z < -self._z
                ),
                None,
            )
            clock_deviation = self._clock_rates[key].update(
                current.action_counts[key], max(1, current.end - current.start)
            )
            # Beside a flood of something else all is rare; what has stopped is so by the clock as well.
            if deviation and clock_deviation and clock_deviation.ratio < 0.3:
                findings.append(self._make_finding(key, deviation, bins))
        return findings

    def is_over(self, key: ActionKey, current: Bin) -> bool | None:
        """Whether the action is heard again; None: too little happened to say."""
        if key not in self._rates:
            return None
        deviation = self._rates[key][0].compare(current.action_counts[key], _compute_exposure(current, key))
        return None if deviation is None or deviation.expected < 3 else deviation.ratio > 0.5

    def discard_recent(self, key: ActionKey) -> None:
        for rate in self._rates.get(key, ()):
            rate.discard_recent()
        if key in self._clock_rates:
            self._clock_rates[key].discard_recent()

    def reset(self, key: ActionKey) -> None:
        for rate in self._rates.get(key, ()):
            rate.reset()
        if key in self._clock_rates:
            self._clock_rates[key].reset()

    def _make_finding(self, key: ActionKey, deviation: Deviation, bins: deque[Bin]) -> Finding:
        silent_bins = list(bins)
        while len(silent_bins) > 1 and silent_bins[-2].action_counts[
            key
        ] <= 0.2 * deviation.expected * _compute_exposure(silent_bins[-2], key) / max(
            1, sum(_compute_exposure(bin_, key) for bin_ in list(bins)[-30:])
        ):
            silent_bins.pop()
        surface, event_type = key
        evidence = {"type": EventType(event_type).name, "surface": f"{surface:016x}", **deviation_evidence(deviation)}
        reason = f"{EventType(event_type).name} has fallen silent while everything else goes on"
        subject = f"{surface:016x}-{EventType(event_type).name}"
        return Finding(
            "stream", "poison", "action_outage", subject, {"reason": reason, **evidence}, silent_bins[-1].first_offsets,
            needs_rollback=True, slates_only=True, end_condition=key,
        )  # fmt: skip


def _compute_exposure(bin_: Bin, key: ActionKey) -> float:
    return bin_.impressions + bin_.actions - bin_.action_counts[key]
