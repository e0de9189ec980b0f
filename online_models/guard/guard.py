"""The guard of the learn process: it watches what is learnt, raises alarms, and orders the remedies.

It changes nothing itself. Its remedies are orders in the control topic, which the learner carries out as it does a
person's, so that the journal, recovery and replay know of them.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from online_models.control import (
    Command,
    PauseCommand,
    RollbackCommand,
    TruncateHistoryCommand,
    encode_command,
    read_commands,
)
from online_models.guard.actors import BanList, load_attack_group, make_attack_finding, make_producer_findings
from online_models.guard.bins import Bin, BinAggregator
from online_models.guard.detector_suite import DetectorSuite
from online_models.guard.detectors.click_through import ClickThroughDetector
from online_models.guard.detectors.event_rate import EventRateDetector
from online_models.guard.detectors.preference_shift import PreferenceShiftDetector
from online_models.guard.detectors.shilling import ShillingAttack, ShillingDetector
from online_models.guard.findings import DEPTHS, Finding, parse_detector
from online_models.guard.incidents import Incident, incident_from_pause
from online_models.guard.reference_model import ReferenceModel
from online_models.guard.remedies import Remedy, RemedyPlanner
from online_models.model import RecommenderModel
from online_models.progressive_predictions import ClickRanks, PersonalizationGain
from online_models.training.step import Progress, TrainingBatch, next_batch
from stream import config
from stream.alarms import Alarm, AlarmKind, raise_alarms, read_alarms
from stream.logs import EventLog
from stream.topics import CONTROL, EXAMPLES

_ALARM_INTERVAL_MS = 3_600_000  # between two alarms of one detector about the same
_REMEDY_ALARM_INTERVAL_MS = 120_000  # where each is undone
_WARMUP_BLOCKS = 200  # of examples before the learner's place that are looked at when it starts
_PAUSED_READ_BLOCKS = 64  # that are looked at in one go while learning is held
_MAX_NAMED_USERS = 20  # accounts that an alarm names
_SERVING_BLOCKED_TEXT = "nothing is undone; what is learnt is not served while it lasts, for half an hour at most"


class Guard:
    """Sees each step once it is taken, and each block that comes while learning is held."""

    def __init__(self, log: EventLog, settings: config.GuardSettings, folder: Path, now: int) -> None:
        self._log = log
        self._settings = settings
        self._aggregator, self._suite, self._shilling = (
            BinAggregator(),
            DetectorSuite(settings.false_alarms),
            ShillingDetector(),
        )
        self._event_rate = EventRateDetector()
        self._reference_model, self._click_through = ReferenceModel(), ClickThroughDetector(settings.false_alarms)
        self._preference_shift = PreferenceShiftDetector(settings.false_alarms)
        self._planner, self._bans = RemedyPlanner(log, folder, settings.auto_remediate), BanList(log)
        self._alarms = {alarm.id: alarm for alarm in read_alarms(log)}
        self._last_raised_ts: dict[tuple[str, str], int] = {}  # when, by detector and subject
        self._incident: Incident | None = None
        self._is_paused = False
        self._history_start_ts = 0  # event time, ms, before which nothing counts of people's past
        self._next_blocks: dict[int, int] = {}  # next offset of the examples topic, by partition
        self._raise_missing_alarms(now - _ALARM_INTERVAL_MS)

    @property
    def open_alarm(self) -> str:
        """The alarm of a poison that has been learnt and is not undone yet."""
        return self._planner.open_alarm

    @property
    def block_reason(self) -> str:
        """Why nobody is to answer from the state as it is now, "" if all is well."""
        return self._planner.block_reason or (
            self._suite.gradient_norms.block_reason if self._settings.auto_remediate else ""
        )

    def version_block_reason(self) -> str:
        """Why the state as it is now may not be served as a version, "" if it may."""
        return self.block_reason or self._reference_model.degradation_reason()

    def _raise_missing_alarms(self, start_ts: int) -> None:
        """Raise the alarms of remedies that were ordered just before a process died."""
        commands = read_commands(self._log, self._log.end_offset(CONTROL, 0), start_ts)
        reasons = {
            command.reason
            for command in commands
            if isinstance(command, RollbackCommand | PauseCommand | TruncateHistoryCommand)
        }
        for reason in sorted(reasons - self._alarms.keys()):
            if (detector := parse_detector(reason)) in DEPTHS:
                evidence = {"reason": "what was found was lost when the process died; its remedy was not"}
                kind: AlarmKind = "drift" if detector == "preference_shift" else "poison"
                self._publish_alarm(
                    Alarm(reason, 0, DEPTHS[detector], kind, detector, evidence, "carried out all the same")
                )

    def warm_up(self, progress: Progress, pause: PauseCommand | None) -> None:
        """Look at what came before, and raise nothing; take up the hold that is on."""
        position = Progress()
        for partition, end in sorted(progress.example_offsets.items()):
            for training_batch in self._read_batches(position, partition, end - _WARMUP_BLOCKS, end):
                if full_bin := self._aggregate(training_batch, None, None)[0]:
                    self._suite.update(full_bin)
            self._next_blocks[partition] = end
        self._aggregator.next_offsets |= {
            p: max(offset, self._aggregator.next_offsets.get(p, 0)) for p, offset in progress.offsets.items()
        }
        if pause:
            self.on_pause(pause)

    def on_pause(self, pause: PauseCommand) -> None:
        """Learning is held; if that is for an incident that is not known here, since the process died, take it up."""
        self._is_paused = True
        if self._incident is None and (incident := incident_from_pause(pause)):
            self._incident, self._planner.open_alarm = incident, pause.reason

    def on_resume(self) -> None:
        """Learning goes on, by whoever's order."""
        self._incident, self._is_paused = None, False
        self._planner.close_alarm()

    def observe(self, training_batch: TrainingBatch, model: RecommenderModel, version: str, progress: Progress) -> None:
        """Take note of a step that has been taken, and of the version that it led to."""
        self._next_blocks = {
            p: max(offset, self._next_blocks.get(p, 0)) for p, offset in progress.example_offsets.items()
        }
        ts = int(training_batch.batch.ts.max())
        predictions = self._reference_model.update(model, version)
        click_findings = self._click_through.update(
            training_batch.batch, self._aggregator.find_new_rows(training_batch), predictions, version, progress.offsets
        )
        self._update_history_start(model, ts)
        full_bin, attacks, rate_findings = self._aggregate(training_batch, model, model.click_ranks)
        findings = [make_attack_finding(attack) for attack in attacks] + (
            self._suite.update(full_bin) if full_bin else []
        )
        findings += (
            click_findings
            + rate_findings
            + make_producer_findings(self._log, training_batch, model.contribution_caps.violations)
        )
        for change_ts in [finding.change_ts for finding in findings if finding.change_ts]:
            self._preference_shift.suspect_change(change_ts)
        # Answers that come in such a number are nobody's tastes.
        gains = (
            PersonalizationGain()
            if self._suite.label_flip.has_excess_clicks(full_bin or self._aggregator.open_bin)
            else model.personalization_gain
        )
        for finding in findings + self._preference_shift.update(gains, model.history_filter, progress.offsets):
            self._handle_finding(finding, progress, full_bin.end if full_bin else ts)
        if pending := self._planner.pending(self._aggregator.next_offsets, progress, ts):
            alarm, remedy = pending
            self._execute(remedy)
            evidence, detector = {"reason": "what was put off is done now", "alarm": alarm}, parse_detector(alarm)
            self._publish_alarm(
                Alarm(f"{alarm}-deferred", ts, DEPTHS[detector], "poison", detector, evidence, remedy.description)
            )

    def _update_history_start(self, model: RecommenderModel, ts: int) -> None:
        """What is left out of people's past, or counts again, changes features by order."""
        history_start_ts = model.history_filter.start_ts if model.history_filter.is_truncated(ts) else 0
        if history_start_ts != self._history_start_ts:
            self._history_start_ts = history_start_ts
            self._suite.feature_drift.reset()

    def observe_while_paused(self, progress: Progress, model: RecommenderModel) -> None:
        """While learning is held: see what comes, and whether it is over."""
        position = Progress(offsets=dict(self._aggregator.next_offsets))
        for partition in range(self._log.partitions(EXAMPLES)):
            start = self._next_blocks.get(partition, 0)
            end = min(self._log.end_offset(EXAMPLES, partition), start + _PAUSED_READ_BLOCKS)
            for training_batch in self._read_batches(position, partition, start, end):
                full_bin, attacks, rate_findings = self._aggregate(
                    training_batch, None, model.predict_clicks(training_batch.batch)
                )
                for finding in [make_attack_finding(attack) for attack in attacks] + rate_findings:
                    self._handle_finding(finding, progress, int(training_batch.batch.ts.max()))
                if not full_bin or not self._incident:
                    continue
                if self._incident.is_before(full_bin):
                    self._suite.update(
                        full_bin
                    )  # from before it began: after a restart, what is usual has to be learnt
                else:
                    self._check_incident(self._incident, full_bin, progress)
            self._next_blocks[partition] = max(start, end)

    def on_rollback(self) -> None:
        """The learner has gone back."""
        if self._incident is None:
            self._planner.close_alarm()
        self._suite.reset()
        self._reference_model.reset()
        self._click_through.reset()
        self._preference_shift.reset()

    def _read_batches(self, position: Progress, partition: int, start: int, end: int) -> Iterator[TrainingBatch]:
        """Blocks [first, end) of a partition, one at a time, so that bins are no longer than they must be."""
        start = max(start, self._log.start_offset(EXAMPLES, partition))
        while start < end and len(records := self._log.read(EXAMPLES, partition, start, 1)):
            training_batch = next_batch(position, [value for value in records.values if value])
            if training_batch is not None:
                yield training_batch
            start = records.offsets[-1] + 1

    def _aggregate(
        self, training_batch: TrainingBatch, model: RecommenderModel | None, click_ranks: ClickRanks | None
    ) -> tuple[Bin | None, list[ShillingAttack], list[Finding]]:
        is_new = self._aggregator.find_new_rows(training_batch)
        attacks = self._shilling.update(training_batch, is_new)
        rate_findings = self._event_rate.update(training_batch, is_new, self._aggregator.next_offsets)
        full_bin = self._aggregator.update(training_batch, is_new, model, click_ranks)
        if full_bin:
            self._shilling.expire()
        return full_bin, attacks, rate_findings

    # Alarms

    def _handle_finding(self, finding: Finding, progress: Progress, ts: int) -> None:
        offsets = "-".join(f"{p}.{offset}" for p, offset in sorted(finding.first_offsets.items()))
        alarm_id = "-".join(part for part in (finding.detector, finding.subject, offsets) if part)
        evidence = finding.evidence
        ban_text = ""
        if finding.detector == "shilling":
            group = load_attack_group(self._log, finding)
            evidence = evidence | {
                "item_id": group.item,
                "user_ids": [user for _, user in group.users][:_MAX_NAMED_USERS],
            }
            if self._settings.auto_remediate:
                self._bans.ban(group, ts)
                ban_text = (
                    "; for a day what this group does with the item, and all that its keen ones do, is quarantined"
                )
        subject = finding.detector, finding.subject
        interval_ms = _REMEDY_ALARM_INTERVAL_MS if finding.needs_rollback or finding.history_cut else _ALARM_INTERVAL_MS
        if alarm_id in self._alarms or ts - self._last_raised_ts.get(subject, ts - interval_ms) < interval_ms:
            return
        self._last_raised_ts[subject] = ts
        remedy = self._planner.remedy_for(
            finding, alarm_id, self._aggregator.next_offsets, progress, ts, self._is_paused
        )
        # Orders first: a remedy without its alarm is told of after a restart; an alarm would not get its remedy.
        self._execute(remedy)
        remedy_text = (
            _SERVING_BLOCKED_TEXT
            if finding.blocks_serving and self._settings.auto_remediate
            else remedy.description + ban_text
        )
        self._publish_alarm(Alarm(alarm_id, ts, finding.depth, finding.kind, finding.detector, evidence, remedy_text))

    def _execute(self, remedy: Remedy) -> None:
        self._incident = incident_from_pause(remedy.pause) or self._incident
        self._send_commands(remedy.commands)

    def _check_incident(self, incident: Incident, current: Bin, progress: Progress) -> None:
        """End a hold when what lasted is over, or after so long that it must be meant."""
        is_over = self._suite.is_over(incident.end_condition, current)
        if not is_over and incident.is_within_patience(current):
            return
        self._suite.close_incident(incident.end_condition, is_new_baseline=not is_over)
        self.on_resume()
        self._send_commands(incident.closing_commands(current, progress))
        self._publish_alarm(incident.closing_alarm(current, is_new_baseline=not is_over))

    def _publish_alarm(self, alarm: Alarm) -> None:
        self._alarms[alarm.id] = alarm
        raise_alarms(self._log, [alarm])

    def _send_commands(self, commands: Sequence[Command]) -> None:
        if commands:
            self._log.append(CONTROL, 0, [(None, encode_command(command)) for command in commands])
