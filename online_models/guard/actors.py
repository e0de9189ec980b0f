"""The people behind a pumped item, by name, and the bars against what they do with it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from online_models.guard.detectors.shilling import CORE_MIN_ACTIONS, ShillingAttack
from online_models.guard.findings import Finding
from online_models.state.contribution_caps import CapExceeded
from online_models.training.step import TrainingBatch
from stream.ids import hash_id
from stream.logs import EventLog
from stream.quarantine import ANY_ITEM, ban
from stream.records.events import Event, Limits, parse_record
from stream.topics import EVENTS


def make_producer_findings(
    log: EventLog, training_batch: TrainingBatch, exceeded: Iterable[CapExceeded]
) -> list[Finding]:
    """One for each producer and item; nothing is to be undone, since what went too far counted for nothing."""
    return [_make_producer_finding(log, training_batch, violation) for violation in exceeded]


def _make_producer_finding(log: EventLog, training_batch: TrainingBatch, violation: CapExceeded) -> Finding:
    partition, offset = int(training_batch.partition[violation.row]), int(training_batch.batch.offset[violation.row])
    evidence = {"reason": "one producer does far more with an item than counts, beside what all others do with it"}
    for _, event in read_events(log, [(partition, offset)]):
        if event.producer and event.item_id and hash_id(event.item_id) == violation.item:
            evidence |= {"producer": event.producer, "item_id": event.item_id}
    subject = f"{violation.producer:016x}-{violation.item:016x}"
    action_taken = "what goes beyond counts for nothing"
    return Finding("actor", "poison", "producer", subject, evidence, {partition: offset}, action_taken=action_taken)


_NO_LIMITS = Limits(max_age=0, max_skew=0, max_bytes=1 << 40)
_MAX_GAP = 256  # offsets that are read in one go though nothing between them is wanted


def read_events(log: EventLog, positions: Iterable[tuple[int, int]]) -> Iterator[tuple[int, Event]]:
    """The events at some (partition, offset), in that order, each with its partition; what is no longer kept is not."""
    sorted_positions = sorted(set(positions))
    begin = 0
    for i in range(1, len(sorted_positions) + 1):
        if (
            i == len(sorted_positions)
            or sorted_positions[i][0] != sorted_positions[begin][0]
            or sorted_positions[i][1] > sorted_positions[i - 1][1] + _MAX_GAP
        ):
            yield from _read_run(log, sorted_positions[begin][0], [offset for _, offset in sorted_positions[begin:i]])
            begin = i


def _read_run(log: EventLog, partition: int, offsets: list[int]) -> Iterator[tuple[int, Event]]:
    next_offset, offset_set = offsets[0], set(offsets)
    while next_offset <= offsets[-1] and len(
        records := log.read(EVENTS, partition, next_offset, offsets[-1] + 1 - next_offset)
    ):
        for offset, value in zip(records.offsets, records.values, strict=True):
            if offset in offset_set:
                yield from (
                    (partition, event) for event, _ in parse_record(value, _NO_LIMITS) if isinstance(event, Event)
                )
        next_offset = records.offsets[-1] + 1


_BAN_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class AttackGroup:
    """An item as people name it, and who acted on it."""

    item: str
    users: tuple[tuple[int, str], ...]  # (partition, user_id)
    core_members: frozenset[tuple[int, str]]  # those who did the same so often that nothing they do is to be believed


class BanList:
    """Has the stream worker hold back, for a day, what a group does with an item, and all that its keen ones do."""

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._end_ts: dict[tuple[str, tuple[int, str]], int] = {}  # by item and person

    def ban(self, group: AttackGroup, ts: int) -> None:
        """From now on; who is barred already stays so as long as was said."""
        bans = [(ANY_ITEM if user_ref in group.core_members else group.item, user_ref) for user_ref in group.users]
        self._end_ts = {key: end_ts for key, end_ts in self._end_ts.items() if end_ts > ts}
        new_bans = [
            (item, user_ref)
            for item, user_ref in bans
            if self._end_ts.keys().isdisjoint({(item, user_ref), (ANY_ITEM, user_ref)})
        ]
        for item, partition in sorted({(item, partition) for item, (partition, _) in new_bans}):
            user_ids = [user_id for banned_item, (p, user_id) in new_bans if (banned_item, p) == (item, partition)]
            ban(self._log, partition, user_ids, item, ts + _BAN_MS)
        self._end_ts |= dict.fromkeys(new_bans, ts + _BAN_MS)


def make_attack_finding(attack: ShillingAttack) -> Finding:
    actions = [*attack.suspects, *attack.other_actions]
    first_offsets: dict[int, int] = {}
    for action in actions:
        first_offsets[action.partition] = min(action.offset, first_offsets.get(action.partition, action.offset))
    evidence = {
        "reason": "an item is acted on, unshown, by accounts that do nothing else",
        "actions": len(attack.suspects),
        "accounts": attack.accounts,
        "other_actions": len(attack.other_actions),
        "share": round(attack.share, 3),
        "baseline_share": round(attack.baseline_share, 3),
    }
    events = tuple((action.partition, action.offset) for action in actions)
    user_keys = frozenset(action.user for action in attack.suspects)
    finding = Finding(
        "stream", "poison", "shilling", f"{attack.item:016x}", evidence, first_offsets, events, needs_rollback=True
    )
    return replace(finding, user_keys=user_keys)


def load_attack_group(log: EventLog, finding: Finding) -> AttackGroup:
    """Read the events of a finding again: the columns that it was found in hold no names."""
    item, action_counts, users = (
        finding.subject,
        Counter[tuple[tuple[int, str], str, str]](),
        dict[tuple[int, str], None](),
    )
    for partition, event in read_events(log, finding.events):
        item_id, user_ref = event.item_id or "", (partition, event.user_id)
        if hash_id(event.user_id) not in finding.user_keys:  # somebody else, in the same record
            continue
        action_counts[user_ref, item_id, event.type] += 1
        if f"{hash_id(item_id):016x}" == finding.subject:
            item, users[user_ref] = item_id, None
    repeat_counts = Counter[tuple[int, str]]()
    for (user_ref, _, _), count in action_counts.items():
        repeat_counts[user_ref] += count - 1
    return AttackGroup(
        item, tuple(users), frozenset(user_ref for user_ref in users if repeat_counts[user_ref] >= CORE_MIN_ACTIONS - 1)
    )
