"""What is done about poison: which version to go back to, what to leave out, and not again too soon."""

from dataclasses import dataclass
from pathlib import Path

from online_models.control import ForgetOrder, HoldOrder, Order, RollbackOrder, StrikeOrder
from online_models.guard.findings import Finding
from online_models.training.offset_ranges import Ranges, together
from online_models.training.rollback import Outlived, demand_kept
from online_models.training.step import Progress
from online_models.versions import checkpoints, gate
from online_models.versions.checkpoints import DamagedCheckpoint
from stream.logs import EventLog

_PATIENCE_MS = 6 * 3_600_000  # event time after which what cannot be undone is lived with
_BACK_OFF_MS = 120_000  # before the next remedy; twice as long after each, until a day has been quiet
_DAY_MS = 86_400_000
_NEARLY = 0.8
_LIMIT = 8  # remedies in a row, after which people have to see to it


@dataclass(frozen=True, slots=True)
class Remedy:
    """Orders, and what they come to in words."""

    words: str
    orders: tuple[Order, ...] = ()
    hold: HoldOrder | None = None  # among the orders


class Remedies:
    """Decides; the guard gives the orders, and the learner carries them out."""

    def __init__(self, log: EventLog, folder: Path, allowed: bool) -> None:
        self._log = log
        self._folder = folder
        self._allowed = allowed
        self._count, self._last = 0, 0  # in a row, and event time of the last
        self._due: dict[str, Finding] = {}  # what is still to be undone, by its alarm
        self._opened = 0  # event time, ms
        self._skip: Ranges = {}  # offsets that the last remedy left out
        self.open = ""  # the alarm of a poison that has been learnt and is not undone yet

    @property
    def refusal(self) -> str:
        """Why the state as it is now may not be served, "" if it may."""
        return f"alarm {self.open} is open" if self.open and self._allowed else ""

    def of(
        self, finding: Finding, alarm: str, seen: dict[int, int], progress: Progress, ts: int, held: bool = False
    ) -> Remedy:
        """What to do about a finding.

        `seen`: next offset of the events, by partition; `held`: nothing is learnt now.
        """
        if finding.kind == "drift":
            return self._follow(finding, alarm)
        if not finding.undo:
            return Remedy(finding.done or "none but this alarm")
        if self._is_left_out(finding):
            return Remedy("none is needed: nearly all of it is left out since the last remedy")
        self.open, self._opened = alarm, ts
        if not self._allowed:
            return Remedy("none: guard.remedy is off")
        if self._count >= _LIMIT and ts < self._last + _DAY_MS:
            return Remedy(f"left to people: {self._count} remedies in a row did not end it; nothing of it is served")
        if held or ts < self._ready:
            self._due[alarm] = finding
            why = "learning is held" if held else "too soon after the last remedy"
            return Remedy(f"later: {why}; nothing of it is served until then")
        return self._undo([finding], alarm, seen, progress, ts)

    def _follow(self, finding: Finding, alarm: str) -> Remedy:
        forget = finding.forget
        if forget is None or not self._allowed:
            return Remedy("followed: nothing is undone")
        orders = (ForgetOrder(forget.since, forget.until, alarm),)
        if not forget.since:
            return Remedy("followed: all that people did counts again", orders)
        return Remedy("followed: what people did before is left out for a day, or until it tells again", orders)

    def due(self, seen: dict[int, int], progress: Progress, ts: int) -> tuple[str, Remedy] | None:
        """What was put off and can be done by now, with its alarm."""
        if self.open and not self._due and ts >= self._opened + _PATIENCE_MS:
            self.open = ""
        if not self._due or ts < self._ready:
            return None
        alarm, waiting = next(reversed(self._due)), list(self._due.values())
        return alarm, self._undo(waiting, alarm, seen, progress, ts)

    def over(self) -> None:
        """Nothing is left of it, or a person says so."""
        self.open = next(iter(self._due), "")

    def refuse(self, first: dict[int, int], alarm: str) -> None:
        """Mark the versions that were taught anything at or after some offsets."""
        for version in checkpoints.versions_in(self._folder) if self._allowed else ():
            if not self._is_before(version, first):
                gate.mark(self._folder, version, f"taught by what alarm {alarm} is about")

    @property
    def _ready(self) -> int:
        return self._last + _BACK_OFF_MS * 2 ** (self._count - 1) if self._last else 0

    def _undo(self, findings: list[Finding], alarm: str, seen: dict[int, int], progress: Progress, ts: int) -> Remedy:
        self._due.clear()
        self._count = self._count + 1 if ts < self._last + _DAY_MS else 1
        self._last = ts
        first: dict[int, int] = {}
        for finding in findings:
            first |= {p: min(offset, first.get(p, offset)) for p, offset in finding.first.items()}
        ranges = [(finding, _ranges(finding, seen)) for finding in findings]
        skip = together(progress.skip, *(ranges for finding, ranges in ranges if not finding.of_slates))
        slates = together(progress.slates, *(ranges for finding, ranges in ranges if finding.of_slates))
        borne = together({}, *(ranges for finding, ranges in ranges if finding.borne))
        self._skip = skip
        version, lasting = self._sound(first), next((finding for finding in findings if finding.lasts), None)
        if version:
            self.refuse(first, alarm)
        elif lasting is None:
            self.open = ""  # what cannot be undone is lived with: answers must not stand still for it
        # Before the rollback, so that what is learnt after it knows people without it.
        orders: list[Order] = [StrikeOrder(borne, alarm)] if borne else []
        orders += [RollbackOrder(version, skip, alarm, slates)] if version else []
        undone = f"rolled back to {version}, leaving it out"
        words = undone if version else "nothing is undone: no sound version from before it is kept"
        if lasting is None:
            return Remedy(words, tuple(orders))
        began = {str(p): offset for p, offset in lasting.first.items()}
        silent, answers = (lasting.lasts, 0.0) if isinstance(lasting.lasts, tuple) else (None, lasting.lasts or 0.0)
        hold = HoldOrder(alarm, version or "", began, silent, ts, answers)
        return Remedy(f"{words}; learning is held until it is over", (*orders, hold), hold)

    def _is_left_out(self, finding: Finding) -> bool:
        """Whether single events of a finding, as of one more item of a group, went with what was found before."""
        left = [any(a <= offset < b for a, b in self._skip.get(str(p), ())) for p, offset in finding.events]
        return sum(left) > _NEARLY * len(left)

    def _sound(self, first: dict[int, int]) -> str | None:
        """The newest sound version that was taught nothing at or after some offsets, nor written during an alarm."""
        for version in reversed(checkpoints.versions_in(self._folder)):
            if not self._is_before(version, first):
                continue
            try:
                manifest = checkpoints.check(self._folder, version)
                demand_kept(self._log, manifest)
                if not manifest.alarm and not gate.refusal(self._folder, version):
                    return version
            except (OSError, DamagedCheckpoint, Outlived):
                continue
        return None

    def _is_before(self, version: str, first: dict[int, int]) -> bool:
        try:
            offsets = checkpoints.read_manifest(self._folder, version).offsets
        except (OSError, DamagedCheckpoint):
            return False
        return all(offsets.get(str(p), 0) <= offset for p, offset in first.items())


def _ranges(finding: Finding, seen: dict[int, int]) -> Ranges:
    if not finding.events:
        return {str(p): [(first, seen[p])] for p, first in finding.first.items() if first < seen.get(p, 0)}
    ranges: Ranges = {}
    for partition, offset in sorted(set(finding.events)):
        ranges.setdefault(str(partition), []).append((offset, offset + 1))
    return ranges
