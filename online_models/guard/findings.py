"""What a detector noticed, with the reason why it is poison or drift."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from online_models.control import Lasting
from online_models.guard.bins import Bin
from online_models.guard.robust_stats import Odd

WARM = 20  # bins before anything is judged
Depth = Literal["actor", "stream", "learner", "service"]
DEPTHS: dict[str, Depth] = {  # of the detectors whose findings have orders for a remedy
    "silence": "stream",
    "pumping": "stream",
    "label_flip": "learner",
    "click_through": "service",
    "tastes": "learner",
}


@dataclass(frozen=True, slots=True)
class Forget:
    """What people did before `since` does not count up to `until`, event times in ms; 0 and 0: all counts again."""

    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a detector noticed."""

    depth: Depth
    kind: Literal["poison", "drift"]
    detector: str
    subject: str
    evidence: dict[str, Any]
    first: dict[int, int] = field(default_factory=dict)  # offset of the first event concerned, by partition
    events: tuple[tuple[int, int], ...] = ()  # (partition, offset) of each event, if it is some among others
    people: frozenset[int] = frozenset()  # keys of whose those are
    undo: bool = False  # what was learnt of it is to be undone
    done: str = ""  # what is done about it in any case
    refuse: bool = False  # what is learnt is not to be served while it lasts
    began: int = 0  # event time at which the world changed, ms, if it did and that is known
    forget: Forget | None = None  # how it is followed, if not just by learning on
    lasts: Lasting | None = None  # until it is over, nothing is to be learnt
    of_slates: bool = False  # slates and what answers them are poison, other actions are not
    borne: bool = False  # what answers slates bears the names of people who did not: it is to leave their past as well


def detector_of(alarm: str) -> str:
    """Who raised an alarm, by its id."""
    return alarm.partition("-")[0]


def first_of(bins: Sequence[Bin], back: int = 3) -> dict[int, int]:
    """The first offsets of the last few bins, by partition."""
    return list(bins)[-back:][0].first


def told(odd: Odd) -> dict[str, float]:
    return {"z": round(odd.z, 1), "counted": round(odd.counted, 1), "expected": round(odd.expected, 1)}
