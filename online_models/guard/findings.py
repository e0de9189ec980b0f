"""Findings of the detectors, and the remedies that they request."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from online_models.control import ClickRateReturns, EndCondition
from online_models.guard.bins import Bin
from online_models.guard.robust_stats import Deviation
from stream.alarms import AlarmKind

WARMUP_BINS = 20  # bins that form the first baseline; no detector fires before
Depth = Literal["actor", "stream", "learner", "service"]


@dataclass(frozen=True, slots=True)
class AlarmSource:
    """The depth at which a detector looks, and the kinds of alarm that it raises."""

    depth: Depth
    kinds: tuple[AlarmKind, ...]
    has_commands: bool = False  # its remedies are commands to the learner


ALARM_SOURCES: Mapping[str, AlarmSource] = {
    "producer": AlarmSource("actor", ("poison",)),
    "shilling": AlarmSource("stream", ("poison",), has_commands=True),
    "action_outage": AlarmSource("stream", ("poison",), has_commands=True),
    "event_rate": AlarmSource("stream", ("poison", "drift")),
    "feature_drift": AlarmSource("stream", ("poison", "drift")),
    "clock_skew": AlarmSource("stream", ("poison",)),
    "missing_fields": AlarmSource("stream", ("poison",)),
    "item_distribution": AlarmSource("stream", ("drift",)),
    "label_flip": AlarmSource("learner", ("poison",), has_commands=True),
    "gradient_norm": AlarmSource("learner", ("poison",)),
    "update_norm": AlarmSource("learner", ("poison",)),
    "non_finite": AlarmSource("learner", ("poison",)),
    "calibration": AlarmSource("learner", ("drift",)),
    "loss": AlarmSource("learner", ("drift",)),
    "auc": AlarmSource("learner", ("drift",)),
    "preference_shift": AlarmSource("learner", ("drift",), has_commands=True),
    "click_through": AlarmSource("service", ("poison", "drift"), has_commands=True),
}


@dataclass(frozen=True, slots=True)
class AlarmOnly:
    """Raise the alarm; nothing needs undoing, or nothing can be undone."""

    protection: str = ""  # already in force without a command


@dataclass(frozen=True, slots=True)
class FollowDrift:
    """Keep training: the model follows the change by itself."""


@dataclass(frozen=True, slots=True)
class TruncateHistory:
    """Ignore history before `start_ts` in queries before `end_ts`.

    Event times in ms; 0 and 0: use the full history again.
    """

    start_ts: int
    end_ts: int


@dataclass(frozen=True, slots=True)
class BlockServing:
    """Keep serving the last good version while the finding lasts."""


@dataclass(frozen=True, slots=True)
class RollBack:
    """Roll back, and skip all events from the first offsets on."""


@dataclass(frozen=True, slots=True)
class RemoveEvents:
    """Roll back, skip only these events, and quarantine the accounts behind them."""

    events: tuple[tuple[int, int], ...]  # (partition, offset)
    user_keys: frozenset[int]


@dataclass(frozen=True, slots=True)
class PauseUntil:
    """Roll back, skip impressions from the first offsets on, and pause until a condition holds."""

    end_condition: EndCondition

    @property
    def is_impersonated(self) -> bool:
        return is_impersonation(self.end_condition)


Undo = RollBack | RemoveEvents | PauseUntil
RemedyRequest = AlarmOnly | FollowDrift | TruncateHistory | BlockServing | Undo


def is_impersonation(end_condition: EndCondition) -> bool:
    """Return True if users did not click themselves: the clicks must leave their histories."""
    return isinstance(end_condition, ClickRateReturns)


@dataclass(frozen=True, slots=True)
class Finding:
    """An observation of a detector, and the remedy that it requests."""

    kind: AlarmKind
    detector: str  # a key of ALARM_SOURCES
    subject: str  # distinguishes findings of one detector, "" if there is only one
    evidence: dict[str, Any]
    first_offsets: dict[int, int]  # offset of the first event concerned, by partition
    remedy: RemedyRequest
    change_ts: int = 0  # event time at which user behavior changed, ms; 0: unknown, or it did not change

    def __post_init__(self) -> None:
        source = ALARM_SOURCES.get(self.detector)
        if source is None or self.kind not in source.kinds:
            raise ValueError(f"unknown finding: {self.kind} of {self.detector!r}; expected one of ALARM_SOURCES")

    @property
    def depth(self) -> Depth:
        return ALARM_SOURCES[self.detector].depth

    @property
    def gives_commands(self) -> bool:
        """Return True if the remedy is a command to the learner."""
        return isinstance(self.remedy, TruncateHistory | RollBack | RemoveEvents | PauseUntil)


def parse_detector(alarm: str) -> str:
    """The detector that raised an alarm, by the alarm's id."""
    return alarm.partition("-")[0]


def get_first_offsets(bins: Sequence[Bin], n_bins: int = 3) -> dict[int, int]:
    """First offsets of the last few bins, by partition."""
    return bins[max(0, len(bins) - n_bins)].first_offsets


def deviation_evidence(deviation: Deviation) -> dict[str, float]:
    return {
        "z": round(deviation.z, 1),
        "observed": round(deviation.observed, 1),
        "expected": round(deviation.expected, 1),
    }
