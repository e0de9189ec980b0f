"""What a detector noticed, with the reason why it is poison or drift."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from online_models.control import EndCondition
from online_models.guard.bins import Bin
from online_models.guard.robust_stats import Deviation

WARMUP_BINS = 20  # bins before anything is judged
Depth = Literal["actor", "stream", "learner", "service"]
DEPTHS: dict[str, Depth] = {  # of the detectors whose findings have orders for a remedy
    "action_outage": "stream",
    "shilling": "stream",
    "label_flip": "learner",
    "click_through": "service",
    "preference_shift": "learner",
}


@dataclass(frozen=True, slots=True)
class HistoryCut:
    """What people did before `since` does not count up to `until`, event times in ms; 0 and 0: all counts again."""

    start_ts: int
    end_ts: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector noticed."""

    depth: Depth
    kind: Literal["poison", "drift"]
    detector: str
    subject: str
    evidence: dict[str, Any]
    first_offsets: dict[int, int] = field(default_factory=dict)  # offset of the first event concerned, by partition
    events: tuple[tuple[int, int], ...] = ()  # (partition, offset) of each event, if it is some among others
    user_keys: frozenset[int] = frozenset()  # keys of whose those are
    needs_rollback: bool = False  # what was learnt of it is to be undone
    action_taken: str = ""  # what is done about it in any case
    blocks_serving: bool = False  # what is learnt is not to be served while it lasts
    change_ts: int = 0  # event time at which the world changed, ms, if it did and that is known
    history_cut: HistoryCut | None = None  # how it is followed, if not just by learning on
    end_condition: EndCondition | None = None  # until it is over, nothing is to be learnt
    slates_only: bool = False  # slates and what answers them are poison, other actions are not
    is_impersonated: bool = (
        False  # what answers slates bears the names of people who did not: it is to leave their past as well
    )


def parse_detector(alarm: str) -> str:
    """Who raised an alarm, by its id."""
    return alarm.partition("-")[0]


def get_first_offsets(bins: Sequence[Bin], n_bins: int = 3) -> dict[int, int]:
    """The first offsets of the last few bins, by partition."""
    return list(bins)[-n_bins:][0].first_offsets


def deviation_evidence(deviation: Deviation) -> dict[str, float]:
    return {
        "z": round(deviation.z, 1),
        "observed": round(deviation.observed, 1),
        "expected": round(deviation.expected, 1),
    }
