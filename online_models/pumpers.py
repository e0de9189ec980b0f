"""The people behind a pumped item, by name, and the bars against what they do with it."""

from dataclasses import dataclass

from online_models.findings import Finding
from online_models.pumping import Pumped
from stream.events import Event, Limits, parse_record
from stream.ids import key_of
from stream.logs import EventLog
from stream.quarantine import bar
from stream.topics import EVENTS

_DAY_MS = 86_400_000
_ANY = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)


@dataclass(frozen=True, slots=True)
class Group:
    """An item as people name it, and who acted on it."""

    item: str
    people: tuple[tuple[int, str], ...]  # (partition, user_id)


class Bars:
    """Has the stream worker hold back, for a day, what a group does with an item."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._until: dict[tuple[str, tuple[int, str]], int] = {}  # by item and person

    def put(self, group: Group, ts: int) -> None:
        """From now on; who is barred already stays so as long as was said."""
        fresh = [one for one in group.people if ts >= self._until.get((group.item, one), ts)]
        for partition in sorted({partition for partition, _ in fresh}):
            names = [user for p, user in fresh if p == partition]
            bar(self._log, partition, names, group.item, ts + _DAY_MS)
        self._until |= {(group.item, one): ts + _DAY_MS for one in fresh}


def finding_of(pumped: Pumped) -> Finding:
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


def group_of(log: EventLog, finding: Finding) -> Group:
    """Read the events of a finding again: the columns that it was found in hold no names."""
    item, people = finding.subject, dict[tuple[int, str], None]()
    for partition, offset in finding.events:
        for event in _events_at(log, partition, offset):
            if event.item_id and f"{key_of(event.item_id):016x}" == finding.subject:
                item, people[partition, event.user_id] = event.item_id, None
    return Group(item, tuple(people))


def _events_at(log: EventLog, partition: int, offset: int) -> list[Event]:
    records = log.read(EVENTS, partition, offset, 1)
    if not len(records) or records.offsets[0] != offset:
        return []
    return [one for one, _ in parse_record(records.values[0], _ANY) if isinstance(one, Event)]
