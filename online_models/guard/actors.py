"""The people behind a pumped item, by name, and the bars against what they do with it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from online_models.guard.detectors.shilling import AGAIN, Pumped
from online_models.guard.findings import Finding
from online_models.state.contribution_caps import Exceeded
from online_models.training.step import Lesson
from stream.ids import key_of
from stream.logs import EventLog
from stream.quarantine import ANYTHING, bar
from stream.records.events import Event, Limits, parse_record
from stream.topics import EVENTS


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


_ANY = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)
_APART = 256  # offsets that are read in one go though nothing between them is wanted


def events_at(log: EventLog, places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Event]]:
    """The events at some (partition, offset), in that order, each with its partition; what is no longer kept is not."""
    wanted = sorted(set(places))
    begin = 0
    for i in range(1, len(wanted) + 1):
        if i == len(wanted) or wanted[i][0] != wanted[begin][0] or wanted[i][1] > wanted[i - 1][1] + _APART:
            yield from _run(log, wanted[begin][0], [offset for _, offset in wanted[begin:i]])
            begin = i


def _run(log: EventLog, partition: int, offsets: list[int]) -> Iterator[tuple[int, Event]]:
    at, chosen = offsets[0], set(offsets)
    while at <= offsets[-1] and len(records := log.read(EVENTS, partition, at, offsets[-1] + 1 - at)):
        for offset, value in zip(records.offsets, records.values, strict=True):
            if offset in chosen:
                yield from ((partition, one) for one, _ in parse_record(value, _ANY) if isinstance(one, Event))
        at = records.offsets[-1] + 1


_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Group:
    """An item as people name it, and who acted on it."""

    item: str
    people: tuple[tuple[int, str], ...]  # (partition, user_id)
    keen: frozenset[tuple[int, str]]  # those who did the same so often that nothing they do is to be believed


class Bars:
    """Has the stream worker hold back, for a day, what a group does with an item, and all that its keen ones do."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._until: dict[tuple[str, tuple[int, str]], int] = {}  # by item and person

    def put(self, group: Group, ts: int) -> None:
        """From now on; who is barred already stays so as long as was said."""
        bars = [(ANYTHING if one in group.keen else group.item, one) for one in group.people]
        self._until = {bar: until for bar, until in self._until.items() if until > ts}
        fresh = [(item, one) for item, one in bars if self._until.keys().isdisjoint({(item, one), (ANYTHING, one)})]
        for item, partition in sorted({(item, partition) for item, (partition, _) in fresh}):
            names = [user for of, (p, user) in fresh if (of, p) == (item, partition)]
            bar(self._log, partition, names, item, ts + _DAY_MS)
        self._until |= dict.fromkeys(fresh, ts + _DAY_MS)


def finding_of(pumped: Pumped) -> Finding:
    done = [*pumped.suspects, *pumped.besides]
    first: dict[int, int] = {}
    for one in done:
        first[one.partition] = min(one.offset, first.get(one.partition, one.offset))
    evidence = {
        "reason": "an item is acted on, unshown, by accounts that do nothing else",
        "actions": len(pumped.suspects),
        "accounts": pumped.accounts,
        "actions_besides": len(pumped.besides),
        "share": round(pumped.share, 3),
        "usual_share": round(pumped.usual, 3),
    }
    events = tuple((one.partition, one.offset) for one in done)
    people = frozenset(one.user for one in pumped.suspects)
    found = Finding("stream", "poison", "pumping", f"{pumped.item:016x}", evidence, first, events, undo=True)
    return replace(found, people=people)


def group_of(log: EventLog, finding: Finding) -> Group:
    """Read the events of a finding again: the columns that it was found in hold no names."""
    item, acts, people = finding.subject, Counter[tuple[tuple[int, str], str, str]](), dict[tuple[int, str], None]()
    for partition, event in events_at(log, finding.events):
        named, who = event.item_id or "", (partition, event.user_id)
        if key_of(event.user_id) not in finding.people:  # somebody else, in the same record
            continue
        acts[who, named, event.type] += 1
        if f"{key_of(named):016x}" == finding.subject:
            item, people[who] = named, None
    again = Counter[tuple[int, str]]()
    for (who, _, _), times in acts.items():
        again[who] += times - 1
    return Group(item, tuple(people), frozenset(who for who in people if again[who] >= AGAIN - 1))
