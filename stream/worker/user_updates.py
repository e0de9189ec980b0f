"""The users topic: what people said of themselves, and whom to forget, applied to user state."""

import logging
from dataclasses import replace

from stream import metrics
from stream.ids import keys_of
from stream.logs import EventLog, Records
from stream.quarantine import BARRED, bar_in
from stream.topics import USERS
from stream.users.profiles import person_fault
from stream.users.table import UserTable
from stream.worker.partition import Partition, flush

_READ = 4096
_logger = logging.getLogger(__name__)


def describe_people(log: EventLog, users: UserTable, partition: Partition, until: int) -> None:
    """Apply and store the records of a partition from where it was read up to an offset."""
    while partition.users < until:
        records = log.read(USERS, partition.number, partition.users, min(_READ, until - partition.users))
        if not len(records):
            return
        _bar(users, records)
        people = sound_people(records)
        names = [(key or b"").decode() for key in people.keys]
        users.describe(keys_of(names), names, people.offsets, people.values)
        partition.users = records.offsets[-1] + 1
        flush(users, [(partition, replace(partition.stored, users=partition.users))])


def _bar(users: UserTable, records: Records) -> None:
    """Apply the records by which the guard bars people from items."""
    found = [bar_in(key, value) for key, value in zip(records.keys, records.values, strict=True)]
    bars = [(offset, *one) for offset, one in zip(records.offsets, found, strict=True) if one]
    if bars:
        items = keys_of([bar.item_id for _, _, bar in bars]).tolist()
        offsets, until = [offset for offset, _, _ in bars], [bar.until for _, _, bar in bars]
        users.bar(keys_of([name for _, name, _ in bars]), offsets, items, until)


def sound_people(records: Records) -> Records:
    """The records that name a person and say something about them; others are passed over loudly."""
    sound = []
    for i, (key, value) in enumerate(zip(records.keys, records.values, strict=True)):
        if (key or b"").startswith(BARRED):
            continue
        if fault := person_fault(key, value):
            metrics.dead_letter.labels("bad_user").inc()
            _logger.warning("users topic, %d:%d passed over: %s", records.partition, records.offsets[i], fault)
        else:
            sound.append(i)
    return Records(
        records.partition,
        [records.offsets[i] for i in sound],
        [records.keys[i] for i in sound],
        [records.values[i] for i in sound],
        [records.times[i] for i in sound],
    )
