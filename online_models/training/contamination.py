"""Consequences of bad events: versions, their slates, and the actions on those slates."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from online_models.control import Ranges
from online_models.training import journal
from online_models.training.journal import OffsetRange, Rollback
from online_models.training.offset_ranges import excluded_rows
from online_models.versions.checkpoints import version_name
from stream.ids import hash_id
from stream.logs import EventLog
from stream.records.batches import ExampleBatch, Kind
from stream.records.example_blocks import decode_examples
from stream.topics import EXAMPLES

_RECORDS_PER_READ = 256


def contaminated_versions(log: EventLog, folder: Path, bad_ranges: Ranges) -> list[str]:
    """All versions whose state was trained on bad events, oldest first."""
    contaminated: dict[str, None] = {}
    skip, skip_impressions = Ranges(), Ranges()
    is_contaminated = False
    for entry in journal.read_entries(folder / "journal"):
        if isinstance(entry, Rollback):
            skip, skip_impressions, is_contaminated = entry.skip, entry.skip_impressions, entry.version in contaminated
            continue
        # A contaminated state stays contaminated until a rollback.
        is_contaminated = is_contaminated or any(
            _trains_on(log, offset_range, bad_ranges, (skip, skip_impressions)) for offset_range in entry.ranges
        )
        if is_contaminated:
            contaminated[version_name(entry.epoch, entry.step)] = None
    return list(contaminated)


def contaminated_ranges(log: EventLog, folder: Path, bad_ranges: Ranges) -> Ranges:
    """Extend bad ranges by the slates of contaminated versions, and by the actions on them."""
    versions = np.array([hash_id(version) for version in contaminated_versions(log, folder, bad_ranges)], np.uint64)
    if not versions.size:
        return bad_ranges
    extended = {}
    for partition in range(log.partitions(EXAMPLES)):
        offsets = sorted(_contaminated_offsets(log, partition, versions))
        if ranges := [*bad_ranges.get(str(partition), ()), *_to_ranges(offsets)]:
            extended[str(partition)] = sorted(ranges)
    return extended


def _trains_on(log: EventLog, offset_range: OffsetRange, bad_ranges: Ranges, excluded: tuple[Ranges, Ranges]) -> bool:
    bad_in_partition = bad_ranges.get(str(offset_range.partition))
    if not bad_in_partition:
        return False
    skip, skip_impressions = (ranges.get(str(offset_range.partition)) for ranges in excluded)
    for batch in _read_batches(log, offset_range.partition, offset_range.first, offset_range.next):
        is_hit = (
            excluded_rows(batch, bad_in_partition, None)
            & ~excluded_rows(batch, skip, skip_impressions)
            & (batch.kind != Kind.held)
        )
        if is_hit.any():
            return True
    return False


def _contaminated_offsets(log: EventLog, partition: int, versions: np.ndarray) -> set[int]:
    """Offsets of the slates that these versions made, and of the actions on them."""
    contaminated: set[int] = set()
    impressions = np.zeros(0, np.uint64)
    for batch in _read_batches(
        log, partition, log.start_offset(EXAMPLES, partition), log.end_offset(EXAMPLES, partition)
    ):
        is_shown = (batch.kind == Kind.shown) & np.isin(batch.version, versions)
        impressions = np.union1d(impressions, batch.impression[is_shown])
        is_action = (batch.kind == Kind.action) & np.isin(batch.impression, impressions)
        contaminated.update(batch.offset[is_shown | is_action].tolist())
    return contaminated


def _read_batches(log: EventLog, partition: int, first: int, next_: int) -> Iterator[ExampleBatch]:
    while first < next_ and len(records := log.read(EXAMPLES, partition, first, min(_RECORDS_PER_READ, next_ - first))):
        yield from (decode_examples(value)[1] for value in records.values if value)
        first = records.offsets[-1] + 1


def _to_ranges(offsets: list[int]) -> Iterator[tuple[int, int]]:
    """Group consecutive offsets into ranges.

    >>> list(_to_ranges([3, 4, 7]))
    [(3, 5), (7, 8)]
    """
    if not offsets:
        return
    ends = [i for i in range(1, len(offsets)) if offsets[i] != offsets[i - 1] + 1]
    for begin, end in zip(chain([0], ends), chain(ends, [len(offsets)]), strict=True):
        yield offsets[begin], offsets[end - 1] + 1
