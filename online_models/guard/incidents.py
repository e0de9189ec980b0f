"""A poison that lasts: learning is held until it is over, and then goes on without it."""

from dataclasses import dataclass
from typing import Any

from online_models.control import (
    Command,
    EndCondition,
    ExcludeActionsCommand,
    PauseCommand,
    ResumeCommand,
    RollbackCommand,
)
from online_models.guard.bins import Bin
from online_models.guard.findings import DEPTHS, parse_detector
from online_models.training.offset_ranges import Ranges, merge_ranges
from online_models.training.step import Progress
from stream.alarms import Alarm

_PATIENCE_MS = 6 * 3_600_000  # event time after which what lasts is the new usual


@dataclass(frozen=True, slots=True)
class Incident:
    """What learning is held for."""

    alarm: str
    version: str  # to go on from, "" if none is sound
    first_offsets: dict[str, int]  # offset of the first event that must not be learnt, by partition
    end_condition: EndCondition
    start_ts: int  # event time, ms

    def is_within_patience(self, current: Bin) -> bool:
        return current.end < self.start_ts + _PATIENCE_MS

    def is_before(self, current: Bin) -> bool:
        """Whether a bin began before it did."""
        return any(
            current.first_offsets.get(int(partition), 0) < offset for partition, offset in self.first_offsets.items()
        )

    def excluded_ranges(self, current: Bin) -> Ranges:
        """What is left out when it is over with a bin."""
        return {
            p: [(start, max(start, current.first_offsets.get(int(p), start)))]
            for p, start in self.first_offsets.items()
        }

    def closing_commands(self, current: Bin, progress: Progress) -> list[Command]:
        """Go on from the version of before it, without it."""
        excluded, skip = self.excluded_ranges(current), merge_ranges(progress.skip)
        # What the remedy left out went on to wherever the log had come; now it is known where it ended.
        slate_ranges = {
            p: [(a, min(b, self.first_offsets.get(str(p), b))) for a, b in ranges]
            for p, ranges in progress.skip_impressions.items()
        }
        slates = merge_ranges(slate_ranges, excluded)
        exclusion: list[Command] = [ExcludeActionsCommand(excluded, self.alarm)] if self._is_label_flip else []
        rollback: list[Command] = [RollbackCommand(self.version, skip, self.alarm, slates)] if self.version else []
        return [*exclusion, *rollback, ResumeCommand(self.alarm)]

    def closing_alarm(self, current: Bin, is_new_baseline: bool) -> Alarm:
        """The alarm that says so; `meant`: it has lasted too long for poison."""
        evidence: dict[str, Any] = {
            "reason": "it has lasted for so long that it must be meant" if is_new_baseline else "it is over",
            "alarm": self.alarm,
            "excluded_offsets": self.excluded_ranges(current),
        }
        detector, remedy = parse_detector(self.alarm), "learning goes on, and leaves it out"
        return Alarm(f"{self.alarm}-closed", current.end, DEPTHS[detector], "poison", detector, evidence, remedy)

    @property
    def _is_label_flip(self) -> bool:
        return isinstance(self.end_condition, float)


def incident_from_pause(pause: PauseCommand | None) -> Incident | None:
    """None for a hold that only a person ends, or none at all."""
    if pause is None or pause.end_condition is None:
        return None
    return Incident(pause.reason, pause.version, pause.first_offsets, pause.end_condition, pause.start_ts)
