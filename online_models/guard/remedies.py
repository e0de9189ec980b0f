"""What is done about poison: which version to go back to, what to leave out, and not again too soon."""

from dataclasses import dataclass
from pathlib import Path

from online_models.control import Command, ExcludeActionsCommand, PauseCommand, RollbackCommand, TruncateHistoryCommand
from online_models.guard.findings import Finding
from online_models.training.offset_ranges import Ranges, merge_ranges
from online_models.training.rollback import RetentionExceeded, check_retained
from online_models.training.step import Progress
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.logs import EventLog

_PATIENCE_MS = 6 * 3_600_000  # event time after which what cannot be undone is lived with
_BACK_OFF_MS = 120_000  # before the next remedy; twice as long after each, until a day has been quiet
_DAY_MS = 86_400_000
_EXCLUDED_SHARE = 0.8
_MAX_REMEDIES = 8  # remedies in a row, after which people have to see to it


@dataclass(frozen=True, slots=True)
class Remedy:
    """Orders, and what they come to in words."""

    description: str
    commands: tuple[Command, ...] = ()
    pause: PauseCommand | None = None  # among the orders


class RemedyPlanner:
    """Decides; the guard gives the orders, and the learner carries them out."""

    def __init__(self, log: EventLog, folder: Path, is_enabled: bool) -> None:
        self._log = log
        self._folder = folder
        self._is_enabled = is_enabled
        self._streak, self._last_ts = 0, 0  # in a row, and event time of the last
        self._pending: dict[str, Finding] = {}  # what is still to be undone, by its alarm
        self._opened_ts = 0  # event time, ms
        self._skip: Ranges = {}  # offsets that the last remedy left out
        self.open_alarm = ""  # the alarm of a poison that has been learnt and is not undone yet

    @property
    def block_reason(self) -> str:
        """Why the state as it is now may not be served, "" if it may."""
        return f"alarm {self.open_alarm} is open" if self.open_alarm and self._is_enabled else ""

    def remedy_for(
        self,
        finding: Finding,
        alarm: str,
        next_offsets: dict[int, int],
        progress: Progress,
        ts: int,
        is_paused: bool = False,
    ) -> Remedy:
        """What to do about a finding.

        `seen`: next offset of the events, by partition; `held`: nothing is learnt now.
        """
        if finding.kind == "drift":
            return self._follow_drift(finding, alarm)
        if not finding.needs_rollback:
            return Remedy(finding.action_taken or "none but this alarm")
        if self._is_excluded(finding):
            return Remedy("none is needed: nearly all of it is left out since the last remedy")
        self.open_alarm, self._opened_ts = alarm, ts
        if not self._is_enabled:
            return Remedy("none: guard.auto_remediate is off")
        if self._streak >= _MAX_REMEDIES and ts < self._last_ts + _DAY_MS:
            return Remedy(f"left to people: {self._streak} remedies in a row did not end it; nothing of it is served")
        if is_paused or ts < self._ready_ts:
            self._pending[alarm] = finding
            cause = "learning is held" if is_paused else "too soon after the last remedy"
            return Remedy(f"later: {cause}; nothing of it is served until then")
        return self._plan_rollback([finding], alarm, next_offsets, progress, ts)

    def _follow_drift(self, finding: Finding, alarm: str) -> Remedy:
        history_cut = finding.history_cut
        if history_cut is None or not self._is_enabled:
            return Remedy("followed: nothing is undone")
        commands = (TruncateHistoryCommand(history_cut.start_ts, history_cut.end_ts, alarm),)
        if not history_cut.start_ts:
            return Remedy("followed: all that people did counts again", commands)
        return Remedy("followed: what people did before is left out for a day, or until it tells again", commands)

    def pending(self, next_offsets: dict[int, int], progress: Progress, ts: int) -> tuple[str, Remedy] | None:
        """What was put off and can be done by now, with its alarm."""
        if self.open_alarm and not self._pending and ts >= self._opened_ts + _PATIENCE_MS:
            self.open_alarm = ""
        if not self._pending or ts < self._ready_ts:
            return None
        alarm, findings = next(reversed(self._pending)), list(self._pending.values())
        return alarm, self._plan_rollback(findings, alarm, next_offsets, progress, ts)

    def close_alarm(self) -> None:
        """Nothing is left of it, or a person says so."""
        self.open_alarm = next(iter(self._pending), "")

    def block_versions(self, first_offsets: dict[int, int], alarm: str) -> None:
        """Mark the versions that were taught anything at or after some offsets."""
        for version in checkpoints.list_version_names(self._folder) if self._is_enabled else ():
            if not self._is_before(version, first_offsets):
                gate.override(self._folder, version, f"taught by what alarm {alarm} is about")

    @property
    def _ready_ts(self) -> int:
        return self._last_ts + _BACK_OFF_MS * 2 ** (self._streak - 1) if self._last_ts else 0

    def _plan_rollback(
        self, findings: list[Finding], alarm: str, next_offsets: dict[int, int], progress: Progress, ts: int
    ) -> Remedy:
        self._pending.clear()
        self._streak = self._streak + 1 if ts < self._last_ts + _DAY_MS else 1
        self._last_ts = ts
        first_offsets: dict[int, int] = {}
        for finding in findings:
            first_offsets |= {
                p: min(offset, first_offsets.get(p, offset)) for p, offset in finding.first_offsets.items()
            }
        ranges = [(finding, _make_ranges(finding, next_offsets)) for finding in findings]
        skip = merge_ranges(progress.skip, *(ranges for finding, ranges in ranges if not finding.slates_only))
        slates = merge_ranges(progress.skip_impressions, *(ranges for finding, ranges in ranges if finding.slates_only))
        impersonated = merge_ranges({}, *(ranges for finding, ranges in ranges if finding.is_impersonated))
        self._skip = skip
        version, ongoing_finding = (
            self._find_rollback_target(first_offsets),
            next((finding for finding in findings if finding.end_condition), None),
        )
        if version:
            self.block_versions(first_offsets, alarm)
        elif ongoing_finding is None:
            self.open_alarm = ""  # what cannot be undone is lived with: answers must not stand still for it
        # Before the rollback, so that what is learnt after it knows people without it.
        commands: list[Command] = [ExcludeActionsCommand(impersonated, alarm)] if impersonated else []
        commands += [RollbackCommand(version, skip, alarm, slates)] if version else []
        rollback_text = f"rolled back to {version}, leaving it out"
        description = rollback_text if version else "nothing is undone: no sound version from before it is kept"
        if ongoing_finding is None:
            return Remedy(description, tuple(commands))
        pause_offsets = {str(p): offset for p, offset in ongoing_finding.first_offsets.items()}
        silent_action, click_rate = (
            (ongoing_finding.end_condition, 0.0)
            if isinstance(ongoing_finding.end_condition, tuple)
            else (None, ongoing_finding.end_condition or 0.0)
        )
        pause = PauseCommand(alarm, version or "", pause_offsets, silent_action, ts, click_rate)
        return Remedy(f"{description}; learning is held until it is over", (*commands, pause), pause)

    def _is_excluded(self, finding: Finding) -> bool:
        """Whether single events of a finding, as of one more item of a group, went with what was found before."""
        is_skipped = [any(a <= offset < b for a, b in self._skip.get(str(p), ())) for p, offset in finding.events]
        return sum(is_skipped) > _EXCLUDED_SHARE * len(is_skipped)

    def _find_rollback_target(self, first_offsets: dict[int, int]) -> str | None:
        """The newest sound version that was taught nothing at or after some offsets, nor written during an alarm."""
        for version in reversed(checkpoints.list_version_names(self._folder)):
            if not self._is_before(version, first_offsets):
                continue
            try:
                manifest = checkpoints.check(self._folder, version)
                check_retained(self._log, manifest)
                if not manifest.open_alarm and not gate.read_block_reason(self._folder, version):
                    return version
            except (OSError, DamagedCheckpoint, RetentionExceeded):
                continue
        return None

    def _is_before(self, version: str, first_offsets: dict[int, int]) -> bool:
        try:
            offsets = checkpoints.read_manifest(self._folder, version).offsets
        except (OSError, DamagedCheckpoint):
            return False
        return all(offsets.get(str(p), 0) <= offset for p, offset in first_offsets.items())


def _make_ranges(finding: Finding, next_offsets: dict[int, int]) -> Ranges:
    if not finding.events:
        return {
            str(p): [(start, next_offsets[p])]
            for p, start in finding.first_offsets.items()
            if start < next_offsets.get(p, 0)
        }
    ranges: Ranges = {}
    for partition, offset in sorted(set(finding.events)):
        ranges.setdefault(str(partition), []).append((offset, offset + 1))
    return ranges
