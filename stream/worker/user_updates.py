"""Apply the users topic to user state: attributes, requests to forget a user, and bans."""

import logging
from dataclasses import replace

from stream import metrics
from stream.ids import hash_ids
from stream.logs import EventLog, Records
from stream.quarantine import BAN_KEY_PREFIX, parse_ban
from stream.topics import USERS
from stream.users.profiles import validate_user_record
from stream.users.table import UserTable
from stream.worker.partition import Partition, flush

_READ_SIZE = 4096
_logger = logging.getLogger(__name__)


def apply_user_records(log: EventLog, users: UserTable, partition: Partition, end: int) -> None:
    """Apply and store the records of a partition from its read position up to an offset."""
    while partition.next_users_offset < end:
        records = log.read(
            USERS, partition.number, partition.next_users_offset, min(_READ_SIZE, end - partition.next_users_offset)
        )
        if not len(records):
            return
        _apply_bans(users, records)
        user_records = valid_user_records(records)
        user_ids = [(key or b"").decode() for key in user_records.keys]
        users.set_attributes(hash_ids(user_ids), user_ids, user_records.offsets, user_records.values)
        partition.next_users_offset = records.offsets[-1] + 1
        flush(users, [(partition, replace(partition.store_position, next_users_offset=partition.next_users_offset))])


def _apply_bans(users: UserTable, records: Records) -> None:
    """Apply the bans that the guard has issued."""
    entries = [parse_ban(key, value) for key, value in zip(records.keys, records.values, strict=True)]
    bans = [(offset, *entry) for offset, entry in zip(records.offsets, entries, strict=True) if entry]
    if bans:
        items = hash_ids([ban.item_id for _, _, ban in bans]).tolist()
        offsets, end_ts = [offset for offset, _, _ in bans], [ban.end_ts for _, _, ban in bans]
        users.ban(hash_ids([user_id for _, user_id, _ in bans]), offsets, items, end_ts)


def valid_user_records(records: Records) -> Records:
    """Select the records with a valid user id and a valid value; count and log the others."""
    valid_rows = []
    for i, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
        if (key or b"").startswith(BAN_KEY_PREFIX):
            continue
        if error := validate_user_record(key, value):
            metrics.dead_letter.labels("bad_user").inc()
            _logger.warning(
                "skipped a record of the users topic at %d:%d: %s", records.partition, records.offsets[i], error
            )
        else:
            valid_rows.append(i)
    return Records(
        records.partition,
        [records.offsets[i] for i in valid_rows],
        [records.keys[i] for i in valid_rows],
        [records.values[i] for i in valid_rows],
        [records.times[i] for i in valid_rows],
    )
