"""The guard of the learn process: it watches what is learnt, raises alarms, and orders the remedies.

It changes nothing itself. Its remedies are orders in the control topic, which the learner carries out as it does a
person's, so that the journal, recovery and replay know of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from online_models.control import ForgetOrder, HoldOrder, Order, RollbackOrder, encode_order, orders_in
from online_models.guard.actors import Bars, finding_of, findings_of, group_of
from online_models.guard.bins import Bin, Watch
from online_models.guard.detector_suite import Monitors
from online_models.guard.detectors.click_through import ClickThrough
from online_models.guard.detectors.event_rate import Pace
from online_models.guard.detectors.preference_shift import Tastes
from online_models.guard.detectors.shilling import Pumped, Pumping
from online_models.guard.findings import DEPTHS, Finding, detector_of
from online_models.guard.incidents import Incident, incident_of
from online_models.guard.reference_model import Rival
from online_models.guard.remedies import Remedies, Remedy
from online_models.model import Stack
from online_models.progressive_predictions import Answered, Foretold
from online_models.training.step import Lesson, Progress, lesson
from stream import config
from stream.alarms import Alarm, Kind, known_alarms, raise_alarms
from stream.logs import EventLog
from stream.topics import CONTROL, EXAMPLES

_QUIET_MS = 3_600_000  # between two alarms of one detector about the same
_QUIET_UNDONE_MS = 120_000  # where each is undone
_WARM_BLOCKS = 200  # of examples before the learner's place that are looked at when it starts
_LOOK_BLOCKS = 64  # that are looked at in one go while learning is held
_NAMED = 20  # accounts that an alarm names
_UNSERVED = "nothing is undone; what is learnt is not served while it lasts, for half an hour at most"


class Guard:
    """Sees each step once it is taken, and each block that comes while learning is held."""

    def __init__(self, log: EventLog, settings: config.Guard, folder: Path, now: int) -> None:
        self._log = log
        self._settings = settings
        self._watch, self._monitors, self._pumping = Watch(), Monitors(settings.false_alarms), Pumping()
        self._pace = Pace()
        self._rival, self._clicks = Rival(), ClickThrough(settings.false_alarms)
        self._tastes = Tastes(settings.false_alarms)
        self._remedies, self._bars = Remedies(log, folder, settings.remedy), Bars(log)
        self._known = {alarm.id: alarm for alarm in known_alarms(log)}
        self._raised: dict[tuple[str, str], int] = {}  # when, by detector and subject
        self._incident: Incident | None = None
        self._is_held = False
        self._cut = 0  # event time, ms, before which nothing counts of people's past
        self._read: dict[int, int] = {}  # next offset of the examples topic, by partition
        self._tell_untold(now - _QUIET_MS)

    @property
    def open(self) -> str:
        """The alarm of a poison that has been learnt and is not undone yet."""
        return self._remedies.open

    @property
    def refusal(self) -> str:
        """Why nobody is to answer from the state as it is now, "" if all is well."""
        return self._remedies.refusal or (self._monitors.norms.refusal if self._settings.remedy else "")

    def verdict(self) -> str:
        """Why the state as it is now may not be served as a version, "" if it may."""
        return self.refusal or self._rival.verdict()

    def _tell_untold(self, since: int) -> None:
        """Raise the alarms of remedies that were ordered just before a process died."""
        orders = orders_in(self._log, self._log.end(CONTROL, 0), since)
        reasons = {order.reason for order in orders if isinstance(order, RollbackOrder | HoldOrder | ForgetOrder)}
        for reason in sorted(reasons - self._known.keys()):
            if (detector := detector_of(reason)) in DEPTHS:
                evidence = {"reason": "what was found was lost when the process died; its remedy was not"}
                kind: Kind = "drift" if detector == "tastes" else "poison"
                self._tell(Alarm(reason, 0, DEPTHS[detector], kind, detector, evidence, "carried out all the same"))

    def warm(self, progress: Progress, hold: HoldOrder | None) -> None:
        """Look at what came before, and raise nothing; take up the hold that is on."""
        past = Progress()
        for partition, end in sorted(progress.examples.items()):
            for learnt in self._lessons(past, partition, end - _WARM_BLOCKS, end):
                if full := self._add(learnt, None, None)[0]:
                    self._monitors.see(full)
            self._read[partition] = end
        self._watch.seen |= {p: max(offset, self._watch.seen.get(p, 0)) for p, offset in progress.offsets.items()}
        if hold:
            self.held(hold)

    def held(self, hold: HoldOrder) -> None:
        """Learning is held; if that is for an incident that is not known here, since the process died, take it up."""
        self._is_held = True
        if self._incident is None and (incident := incident_of(hold)):
            self._incident, self._remedies.open = incident, hold.reason

    def resumed(self) -> None:
        """Learning goes on, by whoever's order."""
        self._incident, self._is_held = None, False
        self._remedies.over()

    def see(self, learnt: Lesson, stack: Stack, version: str, progress: Progress) -> None:
        """Take note of a step that has been taken, and of the version that it led to."""
        self._read = {p: max(offset, self._read.get(p, 0)) for p, offset in progress.examples.items()}
        ts = int(learnt.batch.ts.max())
        judged = self._rival.see(stack, version)
        clicks = self._clicks.see(learnt.batch, self._watch.fresh(learnt), judged, version, progress.offsets)
        self._follow(stack, ts)
        full, pumped, paced = self._add(learnt, stack, stack.answered)
        findings = [finding_of(one) for one in pumped] + (self._monitors.see(full) if full else [])
        findings += clicks + paced + findings_of(self._log, learnt, stack.caps.exceeded)
        for began in [finding.began for finding in findings if finding.began]:
            self._tastes.doubt(began)
        # Answers that come in such a number are nobody's tastes.
        believed = Foretold() if self._monitors.answers.is_odd(full or self._watch.open_bin) else stack.foretold
        for finding in findings + self._tastes.see(believed, stack.past, progress.offsets):
            self._raise(finding, progress, full.end if full else ts)
        if due := self._remedies.due(self._watch.seen, progress, ts):
            alarm, remedy = due
            self._carry_out(remedy)
            told, detector = {"reason": "what was put off is done now", "alarm": alarm}, detector_of(alarm)
            self._tell(Alarm(f"{alarm}-late", ts, DEPTHS[detector], "poison", detector, told, remedy.words))

    def _follow(self, stack: Stack, ts: int) -> None:
        """What is left out of people's past, or counts again, changes features by order."""
        cut = stack.past.since if stack.past.is_cut(ts) else 0
        if cut != self._cut:
            self._cut = cut
            self._monitors.features.reset()

    def look(self, progress: Progress, stack: Stack) -> None:
        """While learning is held: see what comes, and whether it is over."""
        ahead = Progress(offsets=dict(self._watch.seen))
        for partition in range(self._log.partitions(EXAMPLES)):
            start = self._read.get(partition, 0)
            end = min(self._log.end(EXAMPLES, partition), start + _LOOK_BLOCKS)
            for come in self._lessons(ahead, partition, start, end):
                full, pumped, paced = self._add(come, None, stack.foresee(come.batch))
                for finding in [finding_of(one) for one in pumped] + paced:
                    self._raise(finding, progress, int(come.batch.ts.max()))
                if not full or not self._incident:
                    continue
                if self._incident.is_before(full):
                    self._monitors.see(full)  # from before it began: after a restart, what is usual has to be learnt
                else:
                    self._check(self._incident, full, progress)
            self._read[partition] = max(start, end)

    def undone(self) -> None:
        """The learner has gone back."""
        if self._incident is None:
            self._remedies.over()
        self._monitors.forget()
        self._rival.forget()
        self._clicks.forget()
        self._tastes.reset()

    def _lessons(self, at: Progress, partition: int, first: int, end: int) -> Iterator[Lesson]:
        """Blocks [first, end) of a partition, one at a time, so that bins are no longer than they must be."""
        first = max(first, self._log.start(EXAMPLES, partition))
        while first < end and len(records := self._log.read(EXAMPLES, partition, first, 1)):
            learnt = lesson(at, [value for value in records.values if value])
            if learnt is not None:
                yield learnt
            first = records.offsets[-1] + 1

    def _add(
        self, learnt: Lesson, stack: Stack | None, answers: Answered | None
    ) -> tuple[Bin | None, list[Pumped], list[Finding]]:
        fresh = self._watch.fresh(learnt)
        pumped = self._pumping.see(learnt, fresh)
        paced = self._pace.see(learnt, fresh, self._watch.seen)
        full = self._watch.see(learnt, fresh, stack, answers)
        if full:
            self._pumping.tidy()
        return full, pumped, paced

    # Alarms

    def _raise(self, finding: Finding, progress: Progress, ts: int) -> None:
        places = "-".join(f"{p}.{offset}" for p, offset in sorted(finding.first.items()))
        alarm_id = "-".join(part for part in (finding.detector, finding.subject, places) if part)
        evidence = finding.evidence
        barring = ""
        if finding.detector == "pumping":
            group = group_of(self._log, finding)
            evidence = evidence | {"item_id": group.item, "user_ids": [user for _, user in group.people][:_NAMED]}
            if self._settings.remedy:
                self._bars.put(group, ts)
                barring = (
                    "; for a day what this group does with the item, and all that its keen ones do, is quarantined"
                )
        subject = finding.detector, finding.subject
        quiet = _QUIET_UNDONE_MS if finding.undo or finding.forget else _QUIET_MS
        if alarm_id in self._known or ts - self._raised.get(subject, ts - quiet) < quiet:
            return
        self._raised[subject] = ts
        remedy = self._remedies.of(finding, alarm_id, self._watch.seen, progress, ts, self._is_held)
        # Orders first: a remedy without its alarm is told of after a restart; an alarm would not get its remedy.
        self._carry_out(remedy)
        words = _UNSERVED if finding.refuse and self._settings.remedy else remedy.words + barring
        self._tell(Alarm(alarm_id, ts, finding.depth, finding.kind, finding.detector, evidence, words))

    def _carry_out(self, remedy: Remedy) -> None:
        self._incident = incident_of(remedy.hold) or self._incident
        self._order(remedy.orders)

    def _check(self, incident: Incident, now: Bin, progress: Progress) -> None:
        """End a hold when what lasted is over, or after so long that it must be meant."""
        over = self._monitors.is_over(incident.lasting, now)
        if not over and incident.is_borne_with(now):
            return
        self._monitors.settle(incident.lasting, meant=not over)
        self.resumed()
        self._order(incident.orders(now, progress))
        self._tell(incident.told_over(now, meant=not over))

    def _tell(self, alarm: Alarm) -> None:
        self._known[alarm.id] = alarm
        raise_alarms(self._log, [alarm])

    def _order(self, orders: Sequence[Order]) -> None:
        if orders:
            self._log.append(CONTROL, 0, [(None, encode_order(order)) for order in orders])
