"""A poison that lasts: learning is held until it is over, and then goes on without it."""

from dataclasses import dataclass
from typing import Any

from online_models.control import HoldOrder, Lasting, Order, ResumeOrder, RollbackOrder, StrikeOrder
from online_models.guard.bins import Bin
from online_models.guard.findings import DEPTHS, detector_of
from online_models.training.offset_ranges import Ranges, together
from online_models.training.step import Progress
from stream.alarms import Alarm

_PATIENCE_MS = 6 * 3_600_000  # event time after which what lasts is the new usual


@dataclass(frozen=True, slots=True)
class Incident:
    """What learning is held for."""

    alarm: str
    version: str  # to go on from, "" if none is sound
    first: dict[str, int]  # offset of the first event that must not be learnt, by partition
    lasting: Lasting
    since: int  # event time, ms

    def is_borne_with(self, now: Bin) -> bool:
        return now.end < self.since + _PATIENCE_MS

    def is_before(self, now: Bin) -> bool:
        """Whether a bin began before it did."""
        return any(now.first.get(int(p), 0) < first for p, first in self.first.items())

    def left_out(self, now: Bin) -> Ranges:
        """What is left out when it is over with a bin."""
        return {p: [(first, max(first, now.first.get(int(p), first)))] for p, first in self.first.items()}

    def orders(self, now: Bin, progress: Progress) -> list[Order]:
        """Go on from the version of before it, without it."""
        bad, skip = self.left_out(now), together(progress.skip)
        # What the remedy left out went on to wherever the log had come; now it is known where it ended.
        before = {p: [(a, min(b, self.first.get(str(p), b))) for a, b in runs] for p, runs in progress.slates.items()}
        slates = together(before, bad)
        strike: list[Order] = [StrikeOrder(bad, self.alarm)] if self._is_flip else []
        back: list[Order] = [RollbackOrder(self.version, skip, self.alarm, slates)] if self.version else []
        return [*strike, *back, ResumeOrder(self.alarm)]

    def told_over(self, now: Bin, meant: bool) -> Alarm:
        """The alarm that says so; `meant`: it has lasted too long for poison."""
        evidence: dict[str, Any] = {
            "reason": "it has lasted for so long that it must be meant" if meant else "it is over",
            "alarm": self.alarm,
            "left_out": self.left_out(now),
        }
        detector, remedy = detector_of(self.alarm), "learning goes on, and leaves it out"
        return Alarm(f"{self.alarm}-over", now.end, DEPTHS[detector], "poison", detector, evidence, remedy)

    @property
    def _is_flip(self) -> bool:
        return isinstance(self.lasting, float)


def incident_of(hold: HoldOrder | None) -> Incident | None:
    """None for a hold that only a person ends, or none at all."""
    if hold is None or hold.lasting is None:
        return None
    return Incident(hold.reason, hold.version, hold.first, hold.lasting, hold.since)
