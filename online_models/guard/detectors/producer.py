"""Report producers whose actions on an item exceed their contribution cap."""

from online_models.guard.detector import TrainedStep
from online_models.guard.event_lookup import read_events
from online_models.guard.findings import AlarmOnly, Finding
from online_models.state.contribution_caps import CapExceeded
from stream.ids import hash_id
from stream.logs import EventLog


class ProducerDetector:
    """Report each cap violation of a step.

    - Null hypothesis: a producer contributes to an item as others do.
    - Statistic: its actions on the item in a day, see `ContributionCaps`.
    - Threshold: the larger of 100 actions a day and twice those of all others, plus 100.
    - An alarm means that one producer pushes an item. Nothing needs undoing: actions beyond the cap do not count.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def reset(self) -> None:
        """Keep nothing: the caps are part of the model's state."""

    def update(self, step: TrainedStep) -> list[Finding]:
        return [self._make_finding(step, violation) for violation in step.result.cap_violations]

    def _make_finding(self, step: TrainedStep, violation: CapExceeded) -> Finding:
        partition = int(step.rows.partition[violation.row])
        offset = int(step.rows.batch.offset[violation.row])
        evidence = {"reason": "one producer acts on an item far more than all others, and exceeds its cap"}
        for _, event in read_events(self._log, [(partition, offset)]):
            if event.producer and event.item_id and hash_id(event.item_id) == violation.item:
                evidence |= {"producer": event.producer, "item_id": event.item_id}
        subject = f"{violation.producer:016x}-{violation.item:016x}"
        remedy = AlarmOnly(protection="actions beyond the cap do not count")
        return Finding("poison", "producer", subject, evidence, {partition: offset}, remedy)
