"""Guard of the learn process: observe training, raise alarms, send remedies.

The guard changes nothing itself. Remedies are commands in the control topic, which the learner applies like an
operator's, so that journal, recovery and replay repeat them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from online_models.control import (
    Command,
    PauseCommand,
    RollbackCommand,
    TruncateHistoryCommand,
    encode_command,
    read_commands,
)
from online_models.guard.actors import BanList
from online_models.guard.bins import Bin, BinAggregator
from online_models.guard.detector import TrainedStep
from online_models.guard.detector_suite import DetectorSuite
from online_models.guard.findings import ALARM_SOURCES, Finding, parse_detector
from online_models.guard.incidents import Incident, incident_from_pause
from online_models.guard.reference_model import ReferenceModel
from online_models.guard.remedies import Remedy, RemedyPlanner
from online_models.guard.settings import GuardRecord
from online_models.progressive_predictions import ClickPredictor, ClickRanks
from online_models.step_result import StepResult
from online_models.training.progress import Progress, TrainingBatch
from online_models.versions.checkpoints import version_name
from stream import config
from stream.alarms import DEFERRED_SUFFIX, Alarm, create_alarm_counters, raise_alarms, read_alarms
from stream.clock import HOUR_MS, MINUTE_MS
from stream.logs import EventLog
from stream.records.batches import ExampleBatch
from stream.topics import CONTROL, EXAMPLES


@dataclass(frozen=True, slots=True)
class GuardTimings(GuardRecord):
    alarm_interval_ms: int = HOUR_MS  # event time between two alarms of one detector and subject,
    command_alarm_interval_ms: int = 2 * MINUTE_MS  # and if the remedy is a command
    patience_ms: int = 6 * HOUR_MS  # event time after which a lasting incident becomes the baseline
    warmup_blocks: int = 200  # of examples before the learner's position, observed at the start
    paused_blocks: int = 64  # of examples observed in one call while training is paused


class Guard:
    """Observe each training step, and each block that arrives while training is paused."""

    def __init__(self, log: EventLog, settings: config.GuardSettings, folder: Path, now: int) -> None:
        self._log = log
        self._settings = settings
        self._timings = GuardTimings()
        self._aggregator, self._reference_model = BinAggregator(), ReferenceModel()
        self.suite = DetectorSuite(settings.false_alarms, log)
        self._planner = RemedyPlanner(log, folder, settings.auto_remediate)
        self._bans = BanList(log, settings.auto_remediate)
        self._alarms = {alarm.id for alarm in read_alarms(log)}
        self._last_raised_ts: dict[tuple[str, str], int] = {}  # event time by detector and subject, ms
        self._incident: Incident | None = None
        self._is_paused = False
        self._next_blocks: dict[int, int] = {}  # next offset of the examples topic, by partition
        create_alarm_counters((source.depth, kind, d) for d, source in ALARM_SOURCES.items() for kind in source.kinds)
        self._raise_missing_alarms(now - self._timings.alarm_interval_ms)

    @property
    def open_alarm(self) -> str:
        """The alarm of poison that has trained the model and is not undone yet."""
        return self._planner.open_alarm

    @property
    def block_reason(self) -> str:
        """Reason why the current state may not be served, "" if it may."""
        return self._planner.block_reason or (self.suite.block_reason if self._settings.auto_remediate else "")

    @property
    def trial_start(self) -> int | None:
        """Start of the histories on trial in the next step, ms; None: there is no trial."""
        return self.suite.trial_start

    def version_block_reason(self) -> str:
        """Reason why the current state may not be served as a version, "" if it may."""
        return self.block_reason or self._reference_model.degradation_reason()

    def warm_up(self, progress: Progress, pause: PauseCommand | None) -> None:
        """Form baselines from earlier blocks without alarms; continue a pause in force."""
        position = Progress()
        for partition, end in sorted(progress.example_offsets.items()):
            for batch in self._read_batches(position, partition, end - self._timings.warmup_blocks, end):
                full_bin, _ = self._aggregate(batch, None)
                if full_bin:
                    self.suite.update_bin(full_bin)
            self._next_blocks[partition] = end
        self._aggregator.next_offsets |= {
            p: max(offset, self._aggregator.next_offsets.get(p, 0)) for p, offset in progress.offsets.items()
        }
        if pause:
            self.on_pause(pause)

    def on_pause(self, pause: PauseCommand) -> None:
        """Note that training is paused; after a restart, continue the incident of the pause."""
        self._is_paused = True
        if self._incident is None and (incident := incident_from_pause(pause)):
            self._incident, self._planner.open_alarm = incident, pause.reason

    def on_resume(self) -> None:
        """Note that training continues, by the guard's or an operator's command."""
        self._incident, self._is_paused = None, False
        self._planner.close_alarm()

    def on_rollback(self) -> None:
        """Reset everything that describes the model from before the rollback."""
        if self._incident is None:
            self._planner.close_alarm()
        self.suite.on_rollback()
        self._reference_model.reset()

    def observe(
        self, result: StepResult, progress: Progress, copy_click_predictor: Callable[[], ClickPredictor]
    ) -> None:
        """Observe a training step.

        `copy_click_predictor` copies the predictor of the version that the step led to.
        """
        self._next_blocks = {
            p: max(offset, self._next_blocks.get(p, 0)) for p, offset in progress.example_offsets.items()
        }
        ts, version = int(result.batch.ts.max()), version_name(progress.epoch, progress.step)
        predictions = self._reference_model.update(result.closed, version, copy_click_predictor)
        rows = self._aggregator.select_new(TrainingBatch(result.batch, result.partition))
        full_bin = self._aggregator.update(rows, result.clicks, result)
        current = full_bin or self._aggregator.open_bin
        step = TrainedStep(rows, result, version, progress.offsets, predictions, current)
        for finding in self.suite.update_step(step, full_bin):
            self._handle_finding(finding, progress, full_bin.end if full_bin else ts)
        self._execute_pending(progress, ts)

    def observe_while_paused(self, progress: Progress, predict_clicks: Callable[[ExampleBatch], ClickRanks]) -> None:
        """Observe the blocks that arrive during a pause; end it when its incident is over."""
        position = Progress(offsets=dict(self._aggregator.next_offsets))
        for partition in range(self._log.partitions(EXAMPLES)):
            start = self._next_blocks.get(partition, 0)
            end = min(self._log.end_offset(EXAMPLES, partition), start + self._timings.paused_blocks)
            for batch in self._read_batches(position, partition, start, end):
                full_bin, findings = self._aggregate(batch, predict_clicks(batch.batch))
                for finding in findings:
                    self._handle_finding(finding, progress, int(batch.batch.ts.max()))
                if full_bin and self._incident:
                    self._observe_incident(self._incident, full_bin, progress)
            self._next_blocks[partition] = max(start, end)

    def _read_batches(self, position: Progress, partition: int, start: int, end: int) -> Iterator[TrainingBatch]:
        """Blocks [start, end) of a partition, one at a time, to keep bins short."""
        start = max(start, self._log.start_offset(EXAMPLES, partition))
        while start < end and len(records := self._log.read(EXAMPLES, partition, start, 1)):
            batch = position.consume([value for value in records.values if value])
            if batch is not None:
                yield batch
            start = records.offsets[-1] + 1

    def _aggregate(self, batch: TrainingBatch, clicks: ClickRanks | None) -> tuple[Bin | None, list[Finding]]:
        """Add rows that train nothing; return the bin if they complete it."""
        rows = self._aggregator.select_new(batch)
        findings = self.suite.update_rows(rows)
        return self._aggregator.update(rows, clicks), findings

    # Alarms

    def _raise_missing_alarms(self, start_ts: int) -> None:
        """Raise the alarms of remedies that were sent just before the process died."""
        reasons = {
            command.reason
            for command in read_commands(self._log, self._log.end_offset(CONTROL, 0), start_ts)
            if isinstance(command, RollbackCommand | PauseCommand | TruncateHistoryCommand)
        }
        for reason in sorted(reasons - self._alarms):
            source = ALARM_SOURCES.get(parse_detector(reason))
            if source and source.has_commands:
                evidence = {"reason": "the evidence was lost when the process died; the remedy was not"}
                remedy, detector = "carried out before the restart", parse_detector(reason)
                self._publish_alarm(Alarm(reason, 0, source.depth, source.kinds[0], detector, evidence, remedy))

    def _handle_finding(self, finding: Finding, progress: Progress, ts: int) -> None:
        offsets = "-".join(f"{p}.{offset}" for p, offset in sorted(finding.first_offsets.items()))
        alarm_id = "-".join(part for part in (finding.detector, finding.subject, offsets) if part)
        finding = self._bans.apply(finding, ts)
        if alarm_id in self._alarms or not self._is_due(finding, ts):
            return
        self._last_raised_ts[finding.detector, finding.subject] = ts
        next_offsets = self._aggregator.next_offsets
        remedy = self._planner.remedy_for(finding, alarm_id, next_offsets, progress, ts, self._is_paused)
        # Commands first: after a crash a remedy without its alarm is reported, but an alarm would not get its remedy.
        self._execute(remedy)
        description = finding.depth, finding.kind, finding.detector, finding.evidence, remedy.description
        self._publish_alarm(Alarm(alarm_id, ts, *description))

    def _is_due(self, finding: Finding, ts: int) -> bool:
        """Return True if the last alarm of this detector and subject is old enough."""
        timings = self._timings
        interval_ms = timings.command_alarm_interval_ms if finding.gives_commands else timings.alarm_interval_ms
        last_ts = self._last_raised_ts.get((finding.detector, finding.subject))
        return last_ts is None or ts >= last_ts + interval_ms

    def _execute_pending(self, progress: Progress, ts: int) -> None:
        """Execute a deferred remedy if it is due."""
        pending = self._planner.pending(self._aggregator.next_offsets, progress, ts)
        if pending is None:
            return
        alarm, remedy = pending
        self._execute(remedy)
        detector = parse_detector(alarm)
        evidence, depth = {"reason": "the deferred remedy is due", "alarm": alarm}, ALARM_SOURCES[detector].depth
        self._publish_alarm(
            Alarm(f"{alarm}{DEFERRED_SUFFIX}", ts, depth, "poison", detector, evidence, remedy.description)
        )

    def _execute(self, remedy: Remedy) -> None:
        self._incident = incident_from_pause(remedy.pause) or self._incident
        self._send_commands(remedy.commands)

    def _observe_incident(self, incident: Incident, current: Bin, progress: Progress) -> None:
        """End a pause when its incident is over, or has lasted so long that it becomes the baseline."""
        if incident.is_before(current):
            self.suite.update_bin(current)  # after a restart, bins from before the incident form the baseline
            return
        is_over = self.suite.is_over(incident.end_condition, current)
        if not is_over and current.end < incident.start_ts + self._timings.patience_ms:
            return
        self.suite.close_incident(incident.end_condition, is_new_baseline=not is_over)
        self.on_resume()
        self._send_commands(incident.closing_commands(current, progress))
        self._publish_alarm(incident.closing_alarm(current, is_new_baseline=not is_over))

    def _publish_alarm(self, alarm: Alarm) -> None:
        self._alarms.add(alarm.id)
        raise_alarms(self._log, [alarm])

    def _send_commands(self, commands: Sequence[Command]) -> None:
        if commands:
            self._log.append(CONTROL, 0, [(None, encode_command(command)) for command in commands])
