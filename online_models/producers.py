"""Producers that do more with an item than counts, by name."""

from collections.abc import Iterable

from online_models.caps import Exceeded
from online_models.findings import Finding
from online_models.lessons import Lesson
from online_models.names import events_at
from stream.ids import key_of
from stream.logs import EventLog


def findings_of(log: EventLog, lesson: Lesson, exceeded: Iterable[Exceeded]) -> list[Finding]:
    """One for each producer and item; nothing is to be undone, since what went too far counted for nothing."""
    return [_finding(log, lesson, one) for one in exceeded]


def _finding(log: EventLog, lesson: Lesson, one: Exceeded) -> Finding:
    partition, offset = int(lesson.partition[one.row]), int(lesson.batch.offset[one.row])
    evidence = {"reason": "one producer does far more with an item than counts, beside what all others do with it"}
    for _, event in events_at(log, [(partition, offset)]):
        if event.producer and event.item_id and key_of(event.item_id) == one.item:
            evidence |= {"producer": event.producer, "item_id": event.item_id}
    subject = f"{one.producer:016x}-{one.item:016x}"
    done = "what goes beyond counts for nothing"
    return Finding("actor", "poison", "producer", subject, evidence, {partition: offset}, done=done)
