"""Apply the users topic to user state: attributes, requests to forget a user, and bans."""

from stream.ids import hash_ids, partition_for_id
from stream.logs import EventLog, Records
from stream.quarantine import BAN_KEY_PREFIX, parse_ban
from stream.records.dead_letters import RejectedEvent, describe_misplaced
from stream.records.events import Rejection
from stream.topics import USERS
from stream.users.profiles import validate_user_record
from stream.users.table import UserTable
from stream.worker.partition import Partition, flush
from stream.worker.rejections import RejectionReporter

_READ_SIZE = 4096


def apply_user_records(
    log: EventLog, users: UserTable, partition: Partition, end: int, rejections: RejectionReporter
) -> None:
    """Apply and store the records of a partition from its read position up to an offset."""
    partitions = log.partitions(USERS)
    while partition.next_users_offset < end:
        records = log.read(
            USERS, partition.number, partition.next_users_offset, min(_READ_SIZE, end - partition.next_users_offset)
        ).before(end)
        if not len(records):  # compacted away, or the end of a transaction
            _store_position(users, partition, end)
            return
        _apply_bans(users, records)
        user_records, rejected = validate_user_records(records, partitions)
        rejections.report(partition.number, rejected, partition.dead_lettered_users, records.times[-1], USERS)
        user_ids = [(key or b"").decode() for key in user_records.keys]
        users.set_attributes(hash_ids(user_ids), user_ids, user_records, partition.number)
        _store_position(users, partition, records.offsets[-1] + 1)


def _store_position(users: UserTable, partition: Partition, next_offset: int) -> None:
    partition.next_users_offset = next_offset
    flush(users, [(partition, partition.store_position.with_users_offset(next_offset))])


def _apply_bans(users: UserTable, records: Records) -> None:
    """Apply the bans that the guard has issued."""
    entries = [parse_ban(key, value) for key, value in zip(records.keys, records.values, strict=True)]
    bans = [(offset, *entry) for offset, entry in zip(records.offsets, entries, strict=True) if entry]
    if bans:
        items = hash_ids([ban.item_id for _, _, ban in bans]).tolist()
        offsets, end_ts = [offset for offset, _, _ in bans], [ban.end_ts for _, _, ban in bans]
        users.ban(hash_ids([user_id for _, user_id, _ in bans]), offsets, items, end_ts, records.partition)


def validate_user_records(records: Records, partitions: int) -> tuple[Records, list[RejectedEvent]]:
    """Select the records with a valid id, value and partition; reject the others."""
    valid_rows, rejected = [], []
    for i, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
        if (key or b"").startswith(BAN_KEY_PREFIX):
            continue
        if rejection := _find_rejection(key, value, records.partition, partitions):
            rejected.append(RejectedEvent(records.offsets[i], 0, rejection, (key or b"") + b"\t" + (value or b"")))
        else:
            valid_rows.append(i)
    valid_records = Records(
        records.partition,
        [records.offsets[i] for i in valid_rows],
        [records.keys[i] for i in valid_rows],
        [records.values[i] for i in valid_rows],
        [records.times[i] for i in valid_rows],
    )
    return valid_records, rejected


def _find_rejection(key: bytes | None, value: bytes | None, partition: int, partitions: int) -> Rejection | None:
    if error := validate_user_record(key, value):
        return Rejection("bad_user", error)
    owner = partition_for_id((key or b"").decode(), partitions)
    if owner != partition:
        return Rejection("wrong_partition", describe_misplaced(owner, partition, partitions))
    return None
