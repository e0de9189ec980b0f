"""Remedies: rollback target, offsets to leave out, and time between two rollbacks."""

from dataclasses import dataclass
from pathlib import Path

from online_models.control import (
    Command,
    ExcludeActionsCommand,
    PauseCommand,
    Ranges,
    RollbackCommand,
    TruncateHistoryCommand,
)
from online_models.guard.findings import (
    AlarmOnly,
    BlockServing,
    Finding,
    FollowDrift,
    PauseUntil,
    RemoveEvents,
    TruncateHistory,
)
from online_models.guard.settings import GuardRecord
from online_models.training.offset_ranges import merge_ranges
from online_models.training.progress import Progress
from online_models.training.rollback import RetentionExceeded, check_retained
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.clock import DAY_MS, HOUR_MS, MINUTE_MS
from stream.logs import EventLog

_BLOCK_TEXT = "nothing is undone; new versions are not served while it lasts, for half an hour at most"
_BAN_TEXT = "the group's actions on the item, and all actions of its core members, are quarantined for a day"


@dataclass(frozen=True, slots=True)
class RemedySettings(GuardRecord):
    patience_ms: int = 6 * HOUR_MS  # event time after which an alarm that cannot be undone is closed
    back_off_ms: int = 2 * MINUTE_MS  # before the next rollback; doubles with each
    quiet_ms: int = DAY_MS  # without a rollback, after which the back-off starts over
    excluded_share: float = 0.8  # of a group's events that the last rollback left out, above which nothing is left
    max_streak: int = 8  # rollbacks, after which an operator has to act


@dataclass(frozen=True, slots=True)
class Remedy:
    """Commands to the learner, and their description."""

    description: str
    commands: tuple[Command, ...] = ()
    pause: PauseCommand | None = None  # one of the commands


class RemedyPlanner:
    """Turn requested remedies into commands: the guard sends, and the learner applies them."""

    def __init__(self, log: EventLog, folder: Path, is_enabled: bool, settings: RemedySettings | None = None) -> None:
        self._log = log
        self._folder = folder
        self._is_enabled = is_enabled
        self._settings = settings or RemedySettings()
        self._streak, self._last_ts = 0, 0  # rollbacks in a row, and event time of the last
        self._pending: dict[str, Finding] = {}  # deferred, by alarm
        self._opened_ts = 0  # event time, ms
        self._skip: Ranges = {}  # offsets that the last rollback left out
        self.open_alarm = ""  # of poison that has trained the model and is not undone yet

    @property
    def block_reason(self) -> str:
        """Reason why the current state may not be served, "" if it may."""
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
        """Plan the remedy that a finding requests.

        `next_offsets`: of the events that the guard has seen, by partition; `is_paused`: training is paused.
        """
        match finding.remedy:
            case AlarmOnly(protection):
                return Remedy(protection or "none but this alarm")
            case FollowDrift():
                return Remedy("followed: nothing is undone")
            case TruncateHistory() as truncation:
                return self._truncate_history(truncation, alarm)
            case BlockServing():
                return Remedy(_BLOCK_TEXT if self._is_enabled else "none: guard.auto_remediate is off")
            case RemoveEvents(events) if self._is_excluded(events):
                return self._with_bans(finding, Remedy("none is needed: the last rollback left out nearly all of it"))
        return self._with_bans(finding, self._undo(finding, alarm, next_offsets, progress, ts, is_paused))

    def pending(self, next_offsets: dict[int, int], progress: Progress, ts: int) -> tuple[str, Remedy] | None:
        """The deferred remedy that is due by now, with its alarm."""
        if self.open_alarm and not self._pending and ts >= self._opened_ts + self._settings.patience_ms:
            self.open_alarm = ""
        if not self._pending or ts < self._ready_ts:
            return None
        alarm, findings = next(reversed(self._pending)), list(self._pending.values())
        return alarm, self._plan_rollback(findings, alarm, next_offsets, progress, ts)

    def close_alarm(self) -> None:
        """Close the open alarm: its poison is undone, or an operator says so."""
        self.open_alarm = next(iter(self._pending), "")

    def block_versions(self, first_offsets: dict[int, int], alarm: str) -> None:
        """Block the versions that were trained on events at or after some offsets."""
        for version in checkpoints.list_version_names(self._folder) if self._is_enabled else ():
            if not self._is_before(version, first_offsets):
                gate.override(self._folder, version, f"trained on events of alarm {alarm}")

    def _truncate_history(self, truncation: TruncateHistory, alarm: str) -> Remedy:
        if not self._is_enabled:
            return Remedy("followed: nothing is undone")
        commands = (TruncateHistoryCommand(truncation.start_ts, truncation.end_ts, alarm),)
        if not truncation.start_ts:
            return Remedy("followed: the full history counts again", commands)
        return Remedy("followed: older history is ignored for a day, or until it predicts clicks again", commands)

    def _with_bans(self, finding: Finding, remedy: Remedy) -> Remedy:
        if not isinstance(finding.remedy, RemoveEvents) or not self._is_enabled:
            return remedy
        return Remedy(f"{remedy.description}; {_BAN_TEXT}", remedy.commands, remedy.pause)

    def _undo(
        self, finding: Finding, alarm: str, next_offsets: dict[int, int], progress: Progress, ts: int, is_paused: bool
    ) -> Remedy:
        self.open_alarm, self._opened_ts = alarm, ts
        if not self._is_enabled:
            return Remedy("none: guard.auto_remediate is off")
        if self._streak >= self._settings.max_streak and ts < self._last_ts + self._settings.quiet_ms:
            return Remedy(f"left to operators: {self._streak} rollbacks in a row did not end it; it is not served")
        if is_paused or ts < self._ready_ts:
            self._pending[alarm] = finding
            cause = "training is paused" if is_paused else "the last rollback was too recent"
            return Remedy(f"deferred: {cause}; it is not served until then")
        return self._plan_rollback([finding], alarm, next_offsets, progress, ts)

    @property
    def _ready_ts(self) -> int:
        return self._last_ts + self._settings.back_off_ms * 2 ** (self._streak - 1) if self._last_ts else 0

    def _plan_rollback(
        self, findings: list[Finding], alarm: str, next_offsets: dict[int, int], progress: Progress, ts: int
    ) -> Remedy:
        self._pending.clear()
        self._streak = self._streak + 1 if ts < self._last_ts + self._settings.quiet_ms else 1
        self._last_ts = ts
        first_offsets = _merge_first_offsets(findings)
        pausing = [finding for finding in findings if isinstance(finding.remedy, PauseUntil)]
        whole = [finding for finding in findings if not isinstance(finding.remedy, PauseUntil)]
        skip = merge_ranges(progress.skip, *(_make_ranges(finding, next_offsets) for finding in whole))
        slates = merge_ranges(progress.skip_impressions, *(_make_ranges(finding, next_offsets) for finding in pausing))
        self._skip = skip
        version = self._find_rollback_target(first_offsets)
        if version:
            self.block_versions(first_offsets, alarm)
        elif not pausing:
            self.open_alarm = ""  # it cannot be undone: serving must not stand still for it
        # Before the rollback, so that training after it ignores these clicks in histories.
        commands: list[Command] = _exclude_impersonated(pausing, next_offsets, alarm)
        commands += [RollbackCommand(version, skip, alarm, slates)] if version else []
        no_version = "nothing is undone: no good version from before it is kept"
        description = f"rolled back to {version}, leaving it out" if version else no_version
        if not pausing:
            return Remedy(description, tuple(commands))
        pause = _make_pause(pausing[0], alarm, version or "", ts)
        return Remedy(f"{description}; training is paused until it is over", (*commands, pause), pause)

    def _is_excluded(self, events: tuple[tuple[int, int], ...]) -> bool:
        """Return True if the last rollback left out most events, as of a group's second item."""
        is_skipped = [any(a <= offset < b for a, b in self._skip.get(str(p), ())) for p, offset in events]
        return sum(is_skipped) > self._settings.excluded_share * len(is_skipped)

    def _find_rollback_target(self, first_offsets: dict[int, int]) -> str | None:
        """Newest good version that is before the offsets, and was not saved during an alarm."""
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


def _merge_first_offsets(findings: list[Finding]) -> dict[int, int]:
    merged: dict[int, int] = {}
    for finding in findings:
        merged |= {p: min(offset, merged.get(p, offset)) for p, offset in finding.first_offsets.items()}
    return merged


def _make_ranges(finding: Finding, next_offsets: dict[int, int]) -> Ranges:
    """Offsets to leave out: single events, or everything since the first offsets."""
    ranges: Ranges = {}
    if isinstance(finding.remedy, RemoveEvents):
        for partition, offset in sorted(set(finding.remedy.events)):
            ranges.setdefault(str(partition), []).append((offset, offset + 1))
        return ranges
    starts = finding.first_offsets.items()
    return {str(p): [(start, next_offsets[p])] for p, start in starts if start < next_offsets.get(p, 0)}


def _exclude_impersonated(findings: list[Finding], next_offsets: dict[int, int], alarm: str) -> list[Command]:
    is_impersonated = [isinstance(f.remedy, PauseUntil) and f.remedy.is_impersonated for f in findings]
    ranges = [_make_ranges(f, next_offsets) for f, flag in zip(findings, is_impersonated, strict=True) if flag]
    impersonated = merge_ranges({}, *ranges)
    return [ExcludeActionsCommand(impersonated, alarm)] if impersonated else []


def _make_pause(finding: Finding, alarm: str, version: str, ts: int) -> PauseCommand:
    assert isinstance(finding.remedy, PauseUntil)
    first_offsets = {str(p): offset for p, offset in finding.first_offsets.items()}
    return PauseCommand(alarm, version, first_offsets, ts, finding.remedy.end_condition)
