"""Incidents: poison that lasts, during which training is paused."""

from dataclasses import dataclass
from typing import Any

from online_models.control import (
    Command,
    EndCondition,
    ExcludeActionsCommand,
    PauseCommand,
    Ranges,
    ResumeCommand,
    RollbackCommand,
)
from online_models.guard.bins import Bin
from online_models.guard.findings import ALARM_SOURCES, is_impersonation, parse_detector
from online_models.training.offset_ranges import merge_ranges
from online_models.training.progress import Progress
from stream.alarms import CLOSED_SUFFIX, Alarm


@dataclass(frozen=True, slots=True)
class Incident:
    """The cause of a pause, and the version and offsets from which training continues."""

    alarm: str
    version: str  # to continue from, "" if there is no good one
    first_offsets: dict[str, int]  # offset of the first event that must not train the model, by partition
    end_condition: EndCondition
    start_ts: int  # event time, ms

    def is_before(self, current: Bin) -> bool:
        """Return True if a bin began before the incident."""
        return any(
            current.first_offsets.get(int(partition), 0) < offset for partition, offset in self.first_offsets.items()
        )

    def excluded_ranges(self, current: Bin) -> Ranges:
        """Offsets that are left out if the incident ends with a bin."""
        return {
            p: [(start, max(start, current.first_offsets.get(int(p), start)))]
            for p, start in self.first_offsets.items()
        }

    def closing_commands(self, current: Bin, progress: Progress) -> list[Command]:
        """Continue from the version before the incident, without its impressions."""
        excluded, skip = self.excluded_ranges(current), merge_ranges(progress.skip)
        # The first remedy left out everything up to the end of the log; now the end of the incident is known.
        slate_ranges = {
            p: [(a, min(b, self.first_offsets.get(str(p), b))) for a, b in ranges]
            for p, ranges in progress.skip_impressions.items()
        }
        slates = merge_ranges(slate_ranges, excluded)
        is_impersonated = is_impersonation(self.end_condition)
        exclusion: list[Command] = [ExcludeActionsCommand(excluded, self.alarm)] if is_impersonated else []
        rollback: list[Command] = [RollbackCommand(self.version, skip, self.alarm, slates)] if self.version else []
        return [*exclusion, *rollback, ResumeCommand(self.alarm)]

    def closing_alarm(self, current: Bin, is_new_baseline: bool) -> Alarm:
        """Alarm that reports the end; `is_new_baseline`: it has lasted too long to be poison."""
        evidence: dict[str, Any] = {
            "reason": "it has lasted so long that it is the new baseline" if is_new_baseline else "it is over",
            "alarm": self.alarm,
            "excluded_offsets": self.excluded_ranges(current),
        }
        detector, remedy = parse_detector(self.alarm), "training continues without these offsets"
        depth = ALARM_SOURCES[detector].depth
        return Alarm(f"{self.alarm}{CLOSED_SUFFIX}", current.end, depth, "poison", detector, evidence, remedy)


def incident_from_pause(pause: PauseCommand | None) -> Incident | None:
    """None without a pause, and for a pause that only an operator ends."""
    if pause is None or pause.end_condition is None:
        return None
    return Incident(pause.reason, pause.version, pause.first_offsets, pause.end_condition, pause.start_ts)
