"""The guard of the learn process: it watches what is learnt, raises alarms, and orders the remedies.

It changes nothing itself. Its remedies are orders in the control topic, which the learner carries out as it does a
person's, so that the journal, recovery and replay know of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from online_models import checkpoints
from online_models.checkpoints import DamagedCheckpoint
from online_models.control import HoldOrder, Order, ResumeOrder, RollbackOrder, encode_order, orders_in
from online_models.lessons import Lesson, Progress, lesson
from online_models.monitors import Finding, Key, Monitors
from online_models.pumping import Pumped, Pumping
from online_models.stack import Closed
from online_models.watch import Bin, Watch
from stream import config
from stream.alarms import Alarm, known_alarms, raise_alarms
from stream.events import Event, Limits, parse_record
from stream.ids import key_of
from stream.logs import EventLog
from stream.quarantine import bar
from stream.topics import CONTROL, EVENTS, EXAMPLES

_QUIET_MS = 3_600_000  # between two alarms of one detector about the same
_PATIENCE_MS = 6 * 3_600_000  # event time after which what lasts is the new usual
_BACK_OFF_MS = 600_000  # before the next remedy; twice as long after each, until a day has been quiet
_DAY_MS = 86_400_000
_WARM_BLOCKS = 200  # of examples before the learner's place that are looked at when it starts
_LOOK_BLOCKS = 64  # that are looked at in one go while learning is held
_NAMED = 20  # accounts that an alarm names
_DEPTHS: dict[str, Literal["stream", "learner"]] = {"silence": "stream", "pumping": "stream", "label_flip": "learner"}
_ANY = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)
Ranges = dict[str, list[tuple[int, int]]]


@dataclass(slots=True)
class Incident:
    """A poison that lasts: learning is held until it is over."""

    alarm: str
    version: str  # to go on from, "" if none is sound
    first: dict[str, int]
    key: Key
    since: int  # event time, ms


class Guard:
    """Sees each step once it is taken, and each block that comes while learning is held."""

    def __init__(self, log: EventLog, settings: config.Guard, folder: Path, now: int) -> None:
        self._log = log
        self._settings = settings
        self._folder = folder
        self._watch, self._monitors, self._pumping = Watch(), Monitors(settings.false_alarms), Pumping()
        self._known = {alarm.id: alarm for alarm in known_alarms(log)}
        self._raised: dict[tuple[str, str], int] = {}  # when, by detector and subject
        self._incident: Incident | None = None
        self._remedies, self._remedied_at = 0, 0
        self._barred: dict[tuple[str, tuple[int, str]], int] = {}  # until when, by item and (partition, person)
        self._read: dict[int, int] = {}  # next offset of the examples topic, by partition
        self._tell_untold(now - _QUIET_MS)
        self.open = ""  # the alarm of a poison that has been learnt and is not undone yet

    def _tell_untold(self, since: int) -> None:
        """Raise the alarms of remedies that were ordered just before a process died."""
        orders = orders_in(self._log, self._log.end(CONTROL, 0), since)
        reasons = {order.reason for order in orders if isinstance(order, RollbackOrder | HoldOrder)}
        for reason in sorted(reasons - self._known.keys()):
            if (detector := reason.partition("-")[0]) in _DEPTHS:
                evidence = {"reason": "what was found was lost when the process died; its remedy was not"}
                alarm = Alarm(reason, 0, _DEPTHS[detector], "poison", detector, evidence, "carried out all the same")
                self._known[alarm.id] = alarm
                raise_alarms(self._log, [alarm])

    def warm(self, progress: Progress, hold: HoldOrder | None) -> None:
        """Look at what came before, and raise nothing; take up the hold that is on."""
        past = Progress()
        for partition, end in sorted(progress.examples.items()):
            for learnt in self._lessons(past, partition, end - _WARM_BLOCKS, end):
                if full := self._add(learnt, None)[0]:
                    self._monitors.see(full)
            self._read[partition] = end
        self._watch.seen |= {p: max(offset, self._watch.seen.get(p, 0)) for p, offset in progress.offsets.items()}
        if hold:
            self.held(hold)

    def held(self, hold: HoldOrder) -> None:
        """Learning is held; if that is for an incident that is not known here, since the process died, take it up."""
        if self._incident is None and hold.silent:
            self._incident = Incident(hold.reason, hold.version, hold.first, hold.silent, hold.since)
            self.open = hold.reason

    def see(self, learnt: Lesson, closed: Closed, progress: Progress) -> None:
        """Take note of a step that has been taken."""
        self._read = {p: max(offset, self._read.get(p, 0)) for p, offset in progress.examples.items()}
        full, pumped = self._add(learnt, closed)
        findings = [self._finding(one) for one in pumped] + (self._monitors.see(full) if full else [])
        for finding in findings:
            if finding.detector == "pumping" and self._settings.remedy:
                self._bar(finding, int(learnt.batch.ts.max()))
            self._raise(finding, progress, full.end if full else int(learnt.batch.ts.max()))

    def look(self, progress: Progress) -> None:
        """While learning is held: see what comes, and whether it is over."""
        ahead = Progress(offsets=dict(self._watch.seen))
        for partition in range(self._log.partitions(EXAMPLES)):
            start = self._read.get(partition, 0)
            end = min(self._log.end(EXAMPLES, partition), start + _LOOK_BLOCKS)
            for come in self._lessons(ahead, partition, start, end):
                if not (full := self._add(come, None)[0]) or not self._incident:
                    continue
                if any(full.first.get(int(p), 0) < first for p, first in self._incident.first.items()):
                    self._monitors.see(full)  # from before it began: after a restart, what is usual has to be learnt
                else:
                    self._check(self._incident, full, progress)
            self._read[partition] = max(start, end)

    def undone(self) -> None:
        """The learner has gone back."""
        if self._incident is None:
            self.open = ""
        self._monitors.forget()

    def _lessons(self, at: Progress, partition: int, first: int, end: int) -> Iterator[Lesson]:
        """Blocks [first, end) of a partition, one at a time, so that bins are no longer than they must be."""
        first = max(first, self._log.start(EXAMPLES, partition))
        while first < end and len(records := self._log.read(EXAMPLES, partition, first, 1)):
            learnt = lesson(at, [value for value in records.values if value])
            if learnt is not None:
                yield learnt
            first = records.offsets[-1] + 1

    def _add(self, learnt: Lesson, closed: Closed | None) -> tuple[Bin | None, list[Pumped]]:
        fresh = self._watch.fresh(learnt)
        pumped = self._pumping.see(learnt, fresh)
        full = self._watch.see(learnt, fresh, closed)
        if full:
            self._pumping.tidy()
        return full, pumped

    # Alarms and remedies

    def _raise(self, finding: Finding, progress: Progress, ts: int) -> None:
        places = "-".join(f"{p}.{offset}" for p, offset in sorted(finding.first.items()))
        alarm_id = "-".join(part for part in (finding.detector, finding.subject, places) if part)
        subject = finding.detector, finding.subject
        quiet = _BACK_OFF_MS if finding.undo else _QUIET_MS
        if alarm_id in self._known or ts - self._raised.get(subject, ts - quiet) < quiet:
            return
        self._raised[subject] = ts
        orders, remedy = self._remedy(finding, alarm_id, progress, ts)
        if finding.detector == "pumping" and self._settings.remedy:
            remedy += "; what this group does with the item is quarantined for a day"
        alarm = Alarm(alarm_id, ts, finding.depth, finding.kind, finding.detector, self._named(finding), remedy)
        self._known[alarm.id] = alarm
        # Orders first: a remedy without its alarm is told of after a restart; an alarm would not get its remedy.
        self._order(orders)
        raise_alarms(self._log, [alarm])

    def _remedy(self, finding: Finding, alarm: str, progress: Progress, ts: int) -> tuple[list[Order], str]:
        """Orders, and what they come to in words."""
        if finding.kind == "drift":
            return [], "followed: nothing is undone"
        if not finding.undo:
            return [], "none but this alarm"
        self.open = alarm
        if not self._settings.remedy:
            return [], "none: guard.remedy is off"
        if ts < self._remedied_at + _BACK_OFF_MS * 2**self._remedies and self._remedied_at:
            return [], "none: too soon after the last remedy"
        self._remedies = self._remedies + 1 if ts < self._remedied_at + _DAY_MS else 1
        self._remedied_at = ts
        version = self._sound(finding.first)
        orders: list[Order] = []
        words = "nothing is undone: no sound version from before it is kept"
        if version:
            skip = _together(progress.skip, self._ranges(finding))
            orders.append(RollbackOrder(version, skip, alarm))
            words = f"rolled back to {version}, leaving it out"
        if finding.lasts:
            first = {str(p): offset for p, offset in finding.first.items()}
            orders.append(HoldOrder(alarm, version or "", first, finding.lasts, ts))
            self._incident = Incident(alarm, version or "", first, finding.lasts, ts)
            words += "; learning is held until it is over"
        return orders, words

    def _check(self, incident: Incident, now: Bin, progress: Progress) -> None:
        """End a hold when what was silent is heard, or after so long that it must be meant."""
        over, patient = self._monitors.silence.is_over(incident.key, now), now.end < incident.since + _PATIENCE_MS
        if not over and patient:
            return
        if over:
            self._monitors.silence.forget(incident.key)
        else:
            self._monitors.silence.reset(incident.key)
        self._incident, self.open = None, ""
        bad = {p: [(first, now.first.get(int(p), first))] for p, first in incident.first.items()}
        skip = _together(progress.skip, bad)
        back: list[Order] = [RollbackOrder(incident.version, skip, incident.alarm)] if incident.version else []
        reason = "it is over" if over else "it has lasted for so long that it must be meant"
        told = Alarm(
            f"{incident.alarm}-over", now.end, "stream", "poison", "silence",
            {"reason": reason, "alarm": incident.alarm, "left_out": bad}, "learning goes on, and leaves it out",
        )  # fmt: skip
        self._known[told.id] = told
        self._order([*back, ResumeOrder(incident.alarm)])
        raise_alarms(self._log, [told])

    def _order(self, orders: list[Order]) -> None:
        if orders:
            self._log.append(CONTROL, 0, [(None, encode_order(order)) for order in orders])

    def _ranges(self, finding: Finding) -> Ranges:
        if finding.events:
            ranges: Ranges = {}
            for partition, offset in sorted(set(finding.events)):
                ranges.setdefault(str(partition), []).append((offset, offset + 1))
            return ranges
        ends = self._watch.seen
        return {str(p): [(first, ends[p])] for p, first in finding.first.items() if first < ends.get(p, 0)}

    def _sound(self, first: dict[int, int]) -> str | None:
        """The newest sound version that was taught nothing at or after some offsets, nor written during an alarm."""
        for version in reversed(checkpoints.versions_in(self._folder)):
            try:
                manifest = checkpoints.read_manifest(self._folder, version)
                clean = all(manifest.offsets.get(str(p), 0) <= offset for p, offset in first.items())
                if clean and not manifest.alarm:
                    return checkpoints.check(self._folder, version).version
            except (OSError, DamagedCheckpoint):
                continue
        return None

    # Pumping

    def _finding(self, pumped: Pumped) -> Finding:
        first: dict[int, int] = {}
        for one in pumped.suspects:
            first[one.partition] = min(one.offset, first.get(one.partition, one.offset))
        evidence = {
            "reason": "an item is acted on, unshown, by accounts that do nothing else",
            "actions": len(pumped.suspects),
            "accounts": pumped.accounts,
            "share": round(pumped.share, 3),
            "usual_share": round(pumped.usual, 3),
        }
        events = tuple((one.partition, one.offset) for one in pumped.suspects)
        return Finding("stream", "poison", "pumping", f"{pumped.item:016x}", evidence, first, events, undo=True)

    def _named(self, finding: Finding) -> dict[str, Any]:
        """The evidence with the ids that people gave."""
        if finding.detector != "pumping":
            return finding.evidence
        item, users = self._group(finding)
        names = list(dict.fromkeys(user for _, user in users))
        return finding.evidence | {"item_id": item, "user_ids": names[:_NAMED]}

    def _bar(self, finding: Finding, ts: int) -> None:
        """From now on the stream worker holds back what this group does with the item."""
        item, users = self._group(finding)
        fresh = [user for user in users if ts >= self._barred.get((item, user), ts)]
        for partition in sorted({partition for partition, _ in fresh}):
            names = [user for p, user in fresh if p == partition]
            bar(self._log, partition, names, item, ts + _DAY_MS)
        self._barred |= {(item, user): ts + _DAY_MS for user in fresh}

    def _group(self, finding: Finding) -> tuple[str, list[tuple[int, str]]]:
        """The item as people name it, and who acted on it, with the partition of each."""
        item, users = finding.subject, dict[tuple[int, str], None]()
        for partition, offset in finding.events:
            for event in self._events_at(partition, offset):
                if event.item_id and f"{key_of(event.item_id):016x}" == finding.subject:
                    item, users[partition, event.user_id] = event.item_id, None
        return item, list(users)

    def _events_at(self, partition: int, offset: int) -> list[Event]:
        records = self._log.read(EVENTS, partition, offset, 1)
        if not len(records) or records.offsets[0] != offset:
            return []
        return [one for one, _ in parse_record(records.values[0], _ANY) if isinstance(one, Event)]


def _together(before: dict[int, list[tuple[int, int]]], added: Ranges) -> Ranges:
    """All ranges of both; those that touch become one."""
    joined: Ranges = {}
    for partition in sorted({str(p) for p in before} | added.keys()):
        runs = joined.setdefault(partition, [])
        for first, next_ in sorted([*before.get(int(partition), ()), *added.get(partition, ())]):
            if runs and first <= runs[-1][1]:
                runs[-1] = runs[-1][0], max(runs[-1][1], next_)
            elif first < next_:
                runs.append((first, next_))
    return {partition: runs for partition, runs in joined.items() if runs}
